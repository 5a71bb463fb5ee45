import Foundation
import LadderCompute
import LadderCore
import LadderEval
import LadderTrain

/// Trains and judges methods on tasks over seeds, each run in a process of its own, so that its peak memory is its own.
///
///     OUT/study.json                            what is run
///     OUT/data/TASK.train.jsonl, .dev.jsonl     the samples, once limited and put into form
///     OUT/runs/TASK/METHOD/seed-S/              the runs' folders
///     OUT/results/TASK/METHOD/…                 one file a finished measurement: none is made twice
///     OUT/table.md, table.json, report.html     the findings
public struct AccuracyStudy: Sendable {
  /// Runs `ladder` with these arguments in a process of its own, hands its progress on, and returns its standard
  /// output.
  public typealias Launch = (_ arguments: [String], _ progress: @escaping (String) -> Void) throws -> Data

  /// What one seed gave.
  public struct Outcome: Codable, Sendable {
    public var evaluation: Evaluation
    /// Of the training run; 0 for the base model.
    public var seconds: Double
    public var tokens: Int
    public var peakBytes: Int
    public var parameters: Int

    enum CodingKeys: String, CodingKey {
      case evaluation, seconds, tokens
      case peakBytes = "peak_bytes"
      case parameters
    }
  }

  public let configuration: StudyConfiguration
  public let folder: String
  private let model: String

  /// - Throws: `usage` where the configuration cannot be run or no model is named.
  public init(_ configuration: StudyConfiguration, folder: String, model: String? = nil) throws {
    try configuration.validate()
    guard let model = model ?? configuration.model else {
      throw LadderError(.usage, "no --model: name a GGUF file here or in the study's file")
    }
    self.configuration = configuration
    self.folder = folder
    self.model = model
  }

  /// Runs what is not done yet, and writes the findings.
  /// - Parameter report: called with what is being run and how far it is.
  @discardableResult
  public func run(launch: @escaping Launch, report: @escaping (String) -> Void = { _ in }) throws -> AccuracyTable {
    try claimFolder()
    for task in configuration.tasks { try writeData(task) }
    let runs = configuration.methods.count * (configuration.seeds.count + (configuration.measuresCost ? 1 : 0))
    let total = configuration.tasks.count * (runs + (configuration.measuresBase ? 1 : 0))
    var done = 0
    func step(_ what: String, _ work: (@escaping (String) -> Void) throws -> Void) throws {
      try Cancellation.check()
      done += 1
      let place = "[\(done)/\(total)] \(what)"
      report(place)
      try work { report("\(place): \($0)") }
    }
    for task in configuration.tasks {
      if configuration.measuresBase { try step("\(task.name), base") { try evaluateBase(task, launch, $0) } }
      for method in configuration.methods {
        for seed in configuration.seeds {
          try step("\(task.name), \(method.name), seed \(seed)") {
            try trainAndEvaluate(task, method, seed, launch, $0)
          }
        }
        if configuration.measuresCost {
          try step("\(task.name), \(method.name), cost") { try measureCost(task, method, launch, $0) }
        }
      }
      // What is known so far can be looked at while the rest runs.
      try write(try table())
    }
    let table = try table()
    try write(table)
    return table
  }

  // MARK: - Measurements

  private func evaluateBase(
    _ task: StudyConfiguration.Task, _ launch: @escaping Launch, _ progress: @escaping (String) -> Void
  ) throws {
    let result = resultPath(task.name, "base", "base")
    if FileManager.default.fileExists(atPath: result) { return }
    let evaluation = try evaluate(
      task, adapter: nil, predictions: predictionsPath(task.name, "base", "base"), launch, progress)
    try write(Outcome(evaluation: evaluation, seconds: 0, tokens: 0, peakBytes: 0, parameters: 0), to: result)
  }

  private func trainAndEvaluate(
    _ task: StudyConfiguration.Task, _ method: StudyConfiguration.Method, _ seed: Int, _ launch: @escaping Launch,
    _ progress: @escaping (String) -> Void
  ) throws {
    let result = resultPath(task.name, method.name, "seed-\(seed)")
    if FileManager.default.fileExists(atPath: result) { return }
    let run = RunDirectory(runPath(task.name, method.name, seed))
    if (try? run.manifest().finished) != true {
      var arguments = [
        "train", "--model", model, "--data", dataPath(task, "train"), "--out", run.path, "--seed", String(seed),
        "--resume",
      ]
      if let cache = configuration.cache, method.options["method"] != "qlora" { arguments += ["--cache", cache] }
      _ = try launch(arguments + options(task, method), progress)
    }
    let evaluation = try evaluate(
      task, adapter: run.path, predictions: predictionsPath(task.name, method.name, "seed-\(seed)"), launch, progress)
    let metrics = try run.metrics(), last = metrics.last
    try write(
      Outcome(
        evaluation: evaluation, seconds: last?.seconds ?? 0, tokens: last?.tokens ?? 0,
        peakBytes: metrics.map(\.peakBytes).max() ?? 0, parameters: try run.manifest().parameters), to: result)
  }

  private func evaluate(
    _ task: StudyConfiguration.Task, adapter: String?, predictions: String, _ launch: @escaping Launch,
    _ progress: @escaping (String) -> Void
  ) throws -> Evaluation {
    try DurableFile.makeFolder((predictions as NSString).deletingLastPathComponent)
    var arguments = [
      "eval", "--json", "--model", model, "--data", dataPath(task, "dev"), "--metric", task.metric.rawValue,
      "--predictions", predictions,
    ]
    if let adapter { arguments += ["--adapter", adapter] }
    if let maxTokens = task.maxTokens { arguments += ["--max-tokens", String(maxTokens)] }
    for key in ["device", "threads"] { if let value = configuration.options[key] { arguments += ["--\(key)", value] } }
    if let cache = configuration.cache { arguments += ["--cache", cache] }
    return try JSONDecoder().decode(Evaluation.self, from: try launch(arguments, progress))
  }

  /// Speed and peak memory of a few steps that run the backbone, whatever the cache holds.
  private func measureCost(
    _ task: StudyConfiguration.Task, _ method: StudyConfiguration.Method, _ launch: @escaping Launch,
    _ progress: @escaping (String) -> Void
  ) throws {
    let result = resultPath(task.name, method.name, "cost")
    if FileManager.default.fileExists(atPath: result) { return }
    // A training of a few steps is what a user's first steps cost.
    let run = RunDirectory(runPath(task.name, method.name, nil))
    try? FileManager.default.removeItem(atPath: run.path)
    var arguments =
      ["train", "--model", model, "--data", dataPath(task, "train"), "--out", run.path]
      + options(task, method, except: ["epochs", "steps"])
    arguments += ["--steps", String(Self.costSteps)]
    _ = try launch(arguments, progress)
    guard let last = try run.metrics().last else { throw LadderError(.engine, "\(run.path) has no metrics") }
    try? FileManager.default.removeItem(atPath: run.path)
    try write(last, to: result)
  }

  private static let costSteps = 12

  private func options(_ task: StudyConfiguration.Task, _ method: StudyConfiguration.Method, except: [String] = [])
    -> [String]
  {
    configuration.options.merging(task.options) { $1 }.merging(task.options(of: method)) { $1 }.filter {
      !except.contains($0.key)
    }
    .sorted { $0.key < $1.key }.compactMap { name, value in
      switch value {
      case "true": "--\(name)"
      case "false": nil
      default: "--\(name)=\(value)"
      }
    }
  }

  // MARK: - Findings

  /// The table of what is done so far.
  public func table() throws -> AccuracyTable {
    var rows: [AccuracyTable.Row] = []
    for task in configuration.tasks {
      for method in [StudyConfiguration.Method(name: "base")] + configuration.methods {
        let names = method.name == "base" ? ["base"] : configuration.seeds.map { "seed-\($0)" }
        let outcomes: [Outcome] = names.compactMap { read(resultPath(task.name, method.name, $0)) }
        if outcomes.isEmpty { continue }
        let cost: TrainingStep? = read(resultPath(task.name, method.name, "cost"))
        let text = task.options(of: method).sorted { $0.key < $1.key }.map { "--\($0.key) \($0.value)" }.joined(
          separator: " ")
        rows.append(
          AccuracyTable.Row(task: task.name, method: method.name, options: text, outcomes: outcomes, cost: cost))
      }
    }
    return AccuracyTable(rows)
  }

  private func write(_ table: AccuracyTable) throws {
    try DurableFile.write(folder + "/table.md", [Data(table.markdown.utf8)])
    try DurableFile.write(folder + "/table.json", json: table)
    try DurableFile.write(folder + "/report.html", [Data(try report(table).html.utf8)])
  }

  private func report(_ table: AccuracyTable) throws -> HTMLReport {
    var report = HTMLReport(title: "Accuracy study")
    report.add("Results", table: table.cells)
    for task in configuration.tasks {
      var curves: [LineChart.Series] = []
      for method in configuration.methods {
        let seed = configuration.seeds.first {
          FileManager.default.fileExists(atPath: RunDirectory(runPath(task.name, method.name, $0)).metricsPath)
        }
        guard let seed else { continue }
        let metrics = try RunDirectory(runPath(task.name, method.name, seed)).metrics()
        curves.append(.init(method.name, Self.smoothed(metrics), markers: false))
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

  // MARK: - Files

  func dataPath(_ task: StudyConfiguration.Task, _ split: String) -> String {
    "\(folder)/data/\(task.name).\(split).jsonl"
  }
  func runPath(_ task: String, _ method: String, _ seed: Int?) -> String {
    "\(folder)/runs/\(task)/\(method)/" + (seed.map { "seed-\($0)" } ?? "cost")
  }
  func resultPath(_ task: String, _ method: String, _ name: String) -> String {
    "\(folder)/results/\(task)/\(method)/\(name).json"
  }
  func predictionsPath(_ task: String, _ method: String, _ name: String) -> String {
    "\(folder)/results/\(task)/\(method)/\(name).predictions.jsonl"
  }

  /// More seeds, tasks or methods go on with what is there; a changed one would mix two studies. What has not begun may
  /// change, and what has is remembered even where this configuration leaves it out.
  private func claimFolder() throws {
    try DurableFile.makeFolder(folder + "/data")
    let path = folder + "/study.json"
    var claim = configuration
    if let old: StudyConfiguration = read(path) {
      let begun = old.methods.filter { method in old.tasks.contains { hasBegun("\($0.name)/\(method.name)") } }
      for before in begun {
        guard let now = configuration.methods.first(where: { $0.name == before.name }) else {
          claim.methods.append(before)
          continue
        }
        if now != before { throw changed(before.name) }
      }
      let kept = configuration.methods.filter(begun.contains)
      for before in old.tasks where hasBegun(before.name) {
        guard old.options == configuration.options else { throw changed(before.name) }
        guard let index = configuration.tasks.firstIndex(where: { $0.name == before.name }) else {
          claim.tasks.append(before)
          continue
        }
        guard before.isLike(configuration.tasks[index], for: kept) else { throw changed(before.name) }
        let absent = before.methodOptions.filter { name, _ in !configuration.methods.contains { $0.name == name } }
        claim.tasks[index].methodOptions.merge(absent) { now, _ in now }
      }
    }
    for task in configuration.tasks where !hasBegun(task.name) {
      for split in ["train", "dev"] { try? FileManager.default.removeItem(atPath: dataPath(task, split)) }
    }
    try write(claim, to: path)
  }

  /// Whether anything of a task, or of `task/method`, was run in the folder.
  private func hasBegun(_ name: String) -> Bool {
    ["runs", "results"].contains { FileManager.default.fileExists(atPath: "\(folder)/\($0)/\(name)") }
  }

  private func changed(_ name: String) -> LadderError {
    LadderError(
      .usage, "\(folder) holds a study in which \(name) had other settings; take another --out, or another name")
  }

  private func writeData(_ task: StudyConfiguration.Task) throws {
    for (split, source, limit) in [("train", task.train, task.trainLimit), ("dev", task.dev, task.devLimit)] {
      let target = dataPath(task, split)
      if FileManager.default.fileExists(atPath: target) { continue }
      let data = try DurableFile.read(source)
      var lines: [Data] = []
      for (index, line) in data.split(separator: UInt8(ascii: "\n")).enumerated() {
        if lines.count >= limit ?? .max { break }
        guard let template = task.template else {
          lines.append(Data(line) + Data("\n".utf8))
          continue
        }
        guard let object = try? JSONSerialization.jsonObject(with: Data(line)) as? [String: Any] else {
          throw LadderError(.data, "\(source):\(index + 1): this line is not a JSON object")
        }
        let filled = try template.filled(object, place: "\(source):\(index + 1)")
        lines.append(
          try JSONSerialization.data(withJSONObject: filled, options: [.sortedKeys, .withoutEscapingSlashes])
            + Data("\n".utf8))
      }
      try DurableFile.write(target, lines)
    }
  }

  private func read<T: Decodable>(_ path: String) -> T? {
    guard FileManager.default.fileExists(atPath: path), let data = try? DurableFile.read(path) else { return nil }
    return try? JSONDecoder().decode(T.self, from: data)
  }

  private func write(_ value: some Encodable, to path: String) throws {
    try DurableFile.makeFolder((path as NSString).deletingLastPathComponent)
    try DurableFile.write(path, json: value)
  }
}
