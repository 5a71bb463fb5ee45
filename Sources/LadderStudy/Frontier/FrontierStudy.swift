import Foundation
import LadderBackbone
import LadderCore
import LadderMethods
import LadderTrain

/// What a method's loss costs: each method's loss on dev against the most memory that its training held, by the kernel's
/// count, and against its seconds.
///
/// Every run begins with nothing: what can be kept from one epoch to the next it keeps in a cache of its own.
public struct FrontierStudy: Sendable {
  /// One method on one task, over all seeds.
  public struct Point: Codable, Sendable {
    public var task: String
    public var method: String
    /// `lst`, `xladder` or `qlora`.
    public var family: String
    public var options: String
    /// Mean nats: among the choices where the task has some.
    public var loss: Double
    public var losses: [Double]
    /// The task's own metric.
    public var value: Double
    public var metric: String
    /// The most of any seed.
    public var peakBytes: Int
    /// Of training, mean.
    public var seconds: Double
    public var parameters: Int
    /// Whether no other method of the task has both a lower loss and less of the other: memory, seconds.
    public var isOnMemoryFrontier = false
    public var isOnTimeFrontier = false

    enum CodingKeys: String, CodingKey {
      case task, method, family, options, loss, losses, value, metric
      case peakBytes = "peak_bytes"
      case seconds, parameters
      case isOnMemoryFrontier = "on_memory_frontier"
      case isOnTimeFrontier = "on_time_frontier"
    }
  }

  public let folder: String
  private let study: AccuracyStudy

  /// - Parameter configuration: its methods, unless it names none: then side networks and QLoRA in the last sixth, third
  ///   and half of the blocks and in all of them.
  public init(_ configuration: StudyConfiguration, folder: String, model: String? = nil) throws {
    guard let model = model ?? configuration.model else {
      throw LadderError(.usage, "no `model`: name a GGUF file here or in the study's file")
    }
    var configuration = configuration
    configuration.measuresCost = false
    configuration.cache = nil
    configuration.cachesEachRun = true
    if !configuration.namesMethods {
      configuration.namesMethods = true
      configuration.methods = try Self.methods(blocks: ModelDimensions(GGUFFile(path: model)).outline.blocks)
    }
    self.folder = folder
    study = try AccuracyStudy(configuration, folder: folder, model: model)
  }

  private static func methods(blocks: Int) throws -> [StudyConfiguration.Method] {
    func method(_ name: String, _ change: (inout TrainingOptions) -> Void) -> StudyConfiguration.Method {
      var method = StudyConfiguration.Method(name: name)
      change(&method.options.training)
      return method
    }
    let sides = [
      method("lst") {
        $0.method.method = .lst
        $0.learningRate = 1e-3
      },
      method("lst-3-epochs") {
        $0.method.method = .lst
        $0.learningRate = 1e-3
        $0.epochs = 3
      },
      method("xladder") {
        $0.method.method = .xladder
        $0.method.depth = min(2, blocks - 1)
        $0.learningRate = 1e-3
      },
    ]
    let counts = Set([blocks / 6, blocks / 3, blocks / 2].filter { $0 >= 1 && $0 < blocks }).sorted()
    let tops = counts.map { count in
      method("top-\(count)") {
        $0.method.method = .qlora
        $0.method.blocks = .last(count)
      }
    }
    return sides + tops + [method("qlora") { $0.method.method = .qlora }]
  }

  /// Runs what is not done yet, and writes `frontier.md`, `frontier.json`, `frontier.html` and two plots of each task.
  @discardableResult
  public func run(_ runner: any Runner, report: @escaping (String) -> Void = { _ in }) throws -> [Point] {
    try study.run(runner, report: report)
    let points = try study.configuration.tasks.flatMap(points)
    try DurableFile.write(folder + "/frontier.json", json: points)
    try DurableFile.write(folder + "/frontier.md", [Data(Self.markdown(points).utf8)])
    var page = HTMLReport(title: "Loss, memory and time")
    page.add("Methods", table: Self.cells(points))
    for task in study.configuration.tasks {
      let base: AccuracyStudy.Outcome? = DurableFile.value(study.folder.result(task.name, "base", "base"))
      let charts = Self.charts(task.name, points.filter { $0.task == task.name }, base: base.map(Self.loss))
      for (name, chart) in zip(["memory", "seconds"], charts) {
        page.add(chart)
        try DurableFile.write("\(folder)/\(task.name)-\(name).svg", [Data(chart.svg().utf8)])
      }
    }
    try DurableFile.write(folder + "/frontier.html", [Data(page.html.utf8)])
    return points
  }

  private func points(_ task: StudyConfiguration.Task) throws -> [Point] {
    let points = try study.configuration.methods.compactMap { method -> Point? in
      let outcomes: [AccuracyStudy.Outcome] = study.configuration.seeds.compactMap {
        DurableFile.value(study.folder.result(task.name, method.name, "seed-\($0)"))
      }
      guard let first = outcomes.first else { return nil }
      let losses = outcomes.map(Self.loss), count = Double(outcomes.count)
      let training = study.configuration.options(task, method).training
      return Point(
        task: task.name, method: method.name, family: try training.method.chosen().name,
        options: task.options(of: method).description, loss: losses.reduce(0, +) / count, losses: losses,
        value: outcomes.reduce(0) { $0 + $1.evaluation.value } / count, metric: first.evaluation.metric.rawValue,
        peakBytes: outcomes.map(\.peakBytes).max() ?? 0, seconds: outcomes.reduce(0) { $0 + $1.seconds } / count,
        parameters: first.parameters)
    }
    func isOnFrontier(_ point: Point, _ cost: (Point) -> Double) -> Bool {
      !points.contains { $0.loss < point.loss && cost($0) < cost(point) }
    }
    return points.map { point in
      var point = point
      point.isOnMemoryFrontier = isOnFrontier(point) { Double($0.peakBytes) }
      point.isOnTimeFrontier = isOnFrontier(point, \.seconds)
      return point
    }
  }

  private static func loss(_ outcome: AccuracyStudy.Outcome) -> Double {
    outcome.evaluation.choiceLoss ?? outcome.evaluation.loss
  }

  // MARK: - Findings

  /// The rows as text, a heading first.
  static func cells(_ points: [Point]) -> [[String]] {
    [
      [
        "task", "method", "options", "loss", "each seed", "metric", "parameters", "peak memory", "seconds",
        "on a frontier",
      ]
    ]
      + points.map { point in
        let frontiers = [point.isOnMemoryFrontier ? "memory" : nil, point.isOnTimeFrontier ? "time" : nil]
        return [
          point.task, point.method, point.options, String(format: "%.4f", point.loss),
          point.losses.map { String(format: "%.3f", $0) }.joined(separator: ", "),
          point.metric == "loss" ? "–" : String(format: "%@ %.3f", point.metric, point.value),
          String(format: "%.2f M", Double(point.parameters) / 1e6),
          String(format: "%.2f GB", Double(point.peakBytes) / 1e9), String(format: "%.0f", point.seconds),
          frontiers.compactMap(\.self).joined(separator: ", "),
        ]
      }
  }

  public static func markdown(_ points: [Point]) -> String { AccuracyTable.markdown(cells(points)) }

  /// Loss against memory and against seconds. QLoRA's points are one curve, from the fewest blocks to all.
  static func charts(_ task: String, _ points: [Point], base: Double?) -> [LineChart] {
    let names = ["lst": "LST", "xladder": "xLadder", "qlora": "QLoRA: all blocks, or the last N"]
    let title = base.map { String(format: "%@ (the model alone: %.3f)", task, $0) } ?? task
    func chart(_ x: String, _ cost: (Point) -> Double) -> LineChart {
      let series = ["lst", "xladder", "qlora"].compactMap { family -> LineChart.Series? in
        let own = points.filter { $0.family == family }
        if own.isEmpty { return nil }
        var series = LineChart.Series(
          names[family] ?? family, own.map { (x: cost($0), y: $0.loss) }, line: family == "qlora")
        series.labels = own.map(\.method)
        return series
      }
      return LineChart(title: title, x: x, y: "loss on dev, nats", series, fromZero: false)
    }
    return [
      chart("peak memory of training, GB") { Double($0.peakBytes) / 1e9 }, chart("seconds of training", \.seconds),
    ]
  }
}
