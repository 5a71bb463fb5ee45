import Foundation
import LadderCore
import LadderTrain

/// The table and the report of an accuracy study.
extension AccuracyStudy {
  /// The table of what is done so far.
  public func table() throws -> AccuracyTable {
    var rows: [AccuracyTable.Row] = []
    for task in configuration.tasks {
      for method in [StudyConfiguration.Method(name: "base")] + configuration.methods {
        let names = method.name == "base" ? ["base"] : configuration.seeds.map { "seed-\($0)" }
        let outcomes: [Outcome] = names.compactMap { DurableFile.value(folder.result(task.name, method.name, $0)) }
        if outcomes.isEmpty { continue }
        let cost: TrainingStep? = DurableFile.value(folder.result(task.name, method.name, "cost"))
        rows.append(
          AccuracyTable.Row(
            task: task.name, method: method.name, options: task.options(of: method).description, outcomes: outcomes,
            cost: cost, readsOthersCache: configuration.cache != nil && !configuration.cachesEachRun))
      }
    }
    return AccuracyTable(rows)
  }

  func write(_ table: AccuracyTable) throws {
    try DurableFile.write(folder.path + "/table.md", [Data(table.markdown.utf8)])
    try DurableFile.write(folder.path + "/table.json", json: table)
    try DurableFile.write(folder.path + "/report.html", [Data(try report(table).html.utf8)])
  }

  private func report(_ table: AccuracyTable) throws -> HTMLReport {
    var report = HTMLReport(title: "Accuracy study")
    report.add("Results", table: table.cells)
    for task in configuration.tasks {
      var curves: [LineChart.Series] = []
      for method in configuration.methods {
        let runs = configuration.seeds.map { folder.run(task.name, method.name, "seed-\($0)") }
        guard let run = runs.first(where: { FileManager.default.fileExists(atPath: $0.metricsPath) }) else { continue }
        curves.append(.init(method.name, Self.smoothed(try run.metrics()), markers: false))
      }
      if !curves.isEmpty {
        report.add(
          LineChart(
            title: "\(task.name): training loss", x: "tokens", y: "nats a token, smoothed", curves, fromZero: false))
      }
      let rows = table.rows.filter { $0.task == task.name }, metric = rows.first?.metric ?? .loss
      let points = rows.filter { $0.peakBytes != nil }.map { row in
        LineChart.Series(row.method, [(x: Double(row.peakBytes ?? 0) / 1e9, y: row.mean)], line: false)
      }
      if !points.isEmpty {
        let base =
          rows.first { $0.method == "base" }.map { String(format: " (the base model has %.3f)", $0.mean) } ?? ""
        report.add(
          LineChart(
            title: "\(task.name): \(metric.rawValue) against memory\(base)", x: "peak memory, GB", y: metric.rawValue,
            points, fromZero: false))
      }
    }
    return report
  }

  /// Some 100 points of the mean loss since the last one.
  private static func smoothed(_ metrics: [TrainingStep]) -> [(x: Double, y: Double)] {
    let size = max(1, metrics.count / 100)
    return stride(from: 0, to: metrics.count, by: size).map { start in
      let part = metrics[start..<min(start + size, metrics.count)]
      return (x: Double(part.last?.tokens ?? 0), y: part.reduce(0.0) { $0 + Double($1.loss) } / Double(part.count))
    }
  }
}
