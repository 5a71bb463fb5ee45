import Foundation
import LadderCore
import LadderEval

/// Does depth in the side network replace written-out reasoning? LST against xLadders of equal parameters, on problems
/// of 1…8 dependent steps, with none, half or all of the steps written out (Zheng et al., "Ladder Up, Memory Down",
/// xLadder).
public struct DepthStudy: Sendable {
  public struct Options: Sendable {
    public var seeds = [0]
    /// Results are digits below this prime: 3, 5 or 7.
    public var modulus = 5
    /// Problems of each depth to learn from, and to be judged on; a fifth at most of all there are is kept back.
    public var trainEach = 300
    public var devEach = 20
    public var deepest = 8
    /// P of the xLadders.
    public var passes = [2, 3, 4]
    public var epochs = 1.0
    public var batchSize = 8
    public var learningRate: Float = 1e-3
    /// Further options of the runs.
    public var run = RunOptions()
    public var cache: String?

    public init() { run.training.maxLength = 128 }
  }

  /// One method with one way of writing: accuracy at each depth.
  public struct Row: Codable, Sendable {
    public var written: StepProblem.Written
    public var method: String
    /// Shares of right answers at 1, 2, … steps, over all seeds.
    public var accuracy: [Double]
    public var mean: Double
    /// Generated tokens of an answer, mean.
    public var tokens: Double
    public var parameters: Int?
  }

  public let options: Options
  public let folder: String
  private let study: AccuracyStudy
  private let dev: [StepProblem]
  private let train: [StepProblem]

  public init(_ options: Options = Options(), folder: String, model: String) throws {
    guard options.trainEach >= 1, options.devEach >= 1, (1...32).contains(options.deepest),
      options.passes.allSatisfy({ $0 >= 2 })
    else {
      throw LadderError(
        .usage, "the depth study wants 1 or more problems of each depth, 1 to 32 steps, and passes of 2 or more")
    }
    guard StepProblem.moduli.contains(options.modulus) else {
      throw LadderError(.usage, "the depth study's modulus is 3, 5 or 7")
    }
    self.options = options
    self.folder = folder
    dev = StepProblem.draw(options.devEach, deepest: options.deepest, modulus: options.modulus, seed: 1, share: 0.2)
    train = StepProblem.draw(
      options.trainEach, deepest: options.deepest, modulus: options.modulus, seed: 2, except: Set(dev))
    let problems = folder + "/problems"
    // The limits cut nothing off: they tell a study of other problems apart from one that goes on.
    let counts = (train.count, dev.count)
    let tasks = StepProblem.Written.allCases.map { written in
      StudyConfiguration.Task(
        name: written.rawValue, train: "\(problems)/\(written.rawValue).modulo-\(options.modulus).train.jsonl",
        dev: "\(problems)/\(written.rawValue).modulo-\(options.modulus).dev.jsonl", metric: .exact,
        trainLimit: counts.0, devLimit: counts.1, maxTokens: 6 * options.deepest + 12)
    }
    let climbs = options.passes.map { passes in
      var method = StudyConfiguration.Method(.xladder)
      method.name += "-\(passes)"
      method.options.training.method.passes = passes
      return method
    }
    var run = options.run
    run.training.epochs = options.epochs
    run.training.batchSize = options.batchSize
    run.training.learningRate = options.learningRate
    study = try AccuracyStudy(
      StudyConfiguration(
        model: model, seeds: options.seeds, cache: options.cache, measuresCost: false, measuresBase: false,
        options: run, tasks: tasks, methods: [StudyConfiguration.Method(.lst)] + climbs),
      folder: folder)
  }

  /// Runs what is not done yet, and writes `depth.md`, `depth.json` and `depth.html` beside the accuracy study's own
  /// findings.
  @discardableResult
  public func run(_ runner: any Runner, report: @escaping (String) -> Void = { _ in }) throws -> [Row] {
    for task in study.configuration.tasks {
      guard let written = StepProblem.Written(rawValue: task.name) else { continue }
      try DurableFile.makeFolder(folder + "/problems")
      try DurableFile.write(task.train, try train.map { try $0.line(written) })
      try DurableFile.write(task.dev, try dev.map { try $0.line(written) })
    }
    let table = try study.run(runner, report: report)
    let rows = try study.configuration.tasks.flatMap { task in
      try study.configuration.methods.compactMap { method in try row(task.name, method.name, table) }
    }
    try write(rows)
    return rows
  }

  private func row(_ task: String, _ method: String, _ table: AccuracyTable) throws -> Row? {
    guard let written = StepProblem.Written(rawValue: task) else { return nil }
    var right = [Int](repeating: 0, count: options.deepest), asked = right, tokens = 0
    for seed in options.seeds {
      let lines = try DurableFile.read(study.folder.predictions(task, method, "seed-\(seed)")).split(
        separator: UInt8(ascii: "\n"))
      for (problem, line) in zip(dev, lines) {
        let prediction = try JSONDecoder().decode(Evaluation.Prediction.self, from: Data(line))
        asked[problem.steps.count - 1] += 1
        right[problem.steps.count - 1] += prediction.isRight ? 1 : 0
        tokens += prediction.tokens
      }
    }
    let all = Double(max(1, asked.reduce(0, +)))
    return Row(
      written: written, method: method, accuracy: zip(right, asked).map { Double($0) / Double(max(1, $1)) },
      mean: Double(right.reduce(0, +)) / all,
      tokens: Double(tokens) / all, parameters: table.rows.first { $0.task == task && $0.method == method }?.parameters)
  }

  // MARK: - Findings

  /// The rows as text, a heading first.
  static func cells(_ rows: [Row]) -> [[String]] {
    let depths = rows.first?.accuracy.count ?? 0
    return [["written out", "method", "parameters"] + (1...max(1, depths)).map { "k = \($0)" } + ["all", "tokens"]]
      + rows.map { row in
        [row.written.rawValue, row.method, row.parameters.map { String(format: "%.2f M", Double($0) / 1e6) } ?? "–"]
          + row.accuracy.map { String(format: "%.2f", $0) } + [
            String(format: "%.3f", row.mean), String(format: "%.1f", row.tokens),
          ]
      }
  }

  public static func markdown(_ rows: [Row]) -> String { AccuracyTable.markdown(cells(rows)) }

  private func write(_ rows: [Row]) throws {
    try DurableFile.write(folder + "/depth.json", json: rows)
    try DurableFile.write(folder + "/depth.md", [Data(Self.markdown(rows).utf8)])
    var report = HTMLReport(title: "Depth study")
    report.add(
      paragraph: "Problems of k steps modulo \(options.modulus), each on the result of the one before. "
        + "A guess is right one time in \(options.modulus). All methods have the same number of trained parameters.")
    report.add("Right answers", table: Self.cells(rows))
    for (index, chart) in Self.charts(rows).enumerated() {
      report.add(chart)
      try DurableFile.write(folder + "/depth-\(index + 1).svg", [Data(chart.svg().utf8)])
    }
    try DurableFile.write(folder + "/depth.html", [Data(report.html.utf8)])
  }

  /// Accuracy by k for each way of writing, then accuracy by generated tokens.
  static func charts(_ rows: [Row]) -> [LineChart] {
    let byDepth = StepProblem.Written.allCases.compactMap { written -> LineChart? in
      let own = rows.filter { $0.written == written }
      if own.isEmpty { return nil }
      let series = own.map { row in
        LineChart.Series(row.method, row.accuracy.enumerated().map { (x: Double($0.offset + 1), y: $0.element) })
      }
      return LineChart(title: "Steps written out: \(written.rawValue)", x: "steps k", y: "right answers", series)
    }
    var methods: [String] = []
    for row in rows where !methods.contains(row.method) { methods.append(row.method) }
    let byTokens = methods.map { method in
      LineChart.Series(
        method, rows.filter { $0.method == method }.map { (x: $0.tokens, y: $0.mean) }.sorted { $0.x < $1.x })
    }
    return byDepth + [
      LineChart(
        title: "Right answers by tokens generated", x: "tokens of an answer, mean", y: "right answers, all k", byTokens)
    ]
  }
}
