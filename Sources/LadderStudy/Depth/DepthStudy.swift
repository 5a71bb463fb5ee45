import Foundation
import LadderCore
import LadderEval
import LadderMethods
import LadderTrain

/// A problem whose answer takes steps, each on the result of the one before.
protocol DepthProblem: Sendable {
  /// k, the steps.
  var depth: Int { get }
  /// A line of a JSONL file.
  func line(_ written: StepProblem.Written) throws -> Data
}

extension DepthProblem where Self: Hashable {
  /// Different problems as `draw` gives them, so many where there are as many; none that is taken, and taken from now on.
  static func different(_ wanted: Int, _ taken: inout Set<Self>, _ draw: () -> Self) -> [Self] {
    var found: [Self] = []
    for _ in 0..<(20 * wanted) where found.count < wanted {
      let problem = draw()
      if taken.insert(problem).inserted { found.append(problem) }
    }
    return found
  }
}

/// Does depth in the side network replace written-out reasoning? LST against xLadders, on problems
/// of 1…8 dependent steps, with none, half or all of the steps written out (Zheng et al., "Ladder Up, Memory Down",
/// xLadder).
public struct DepthStudy: Sendable {
  /// What the steps are.
  public enum Problems: String, Sendable, Codable, CaseIterable {
    /// Sums and products modulo a prime, with none, half or all of the results written out.
    case arithmetic
    /// Links between letters to follow, within the one token that answers, which is chosen among the letters. Each
    /// number of them is learned by a run of its own: among easier problems the harder ones come late.
    case hops
  }

  public struct Options: Sendable {
    public var problems = Problems.arithmetic
    public var seeds = [0]
    /// Results are digits below this prime: 3, 5 or 7.
    public var modulus = 5
    /// Letters that the links of hops lead between.
    public var letters = 8
    /// Problems of each depth to learn from, and to be judged on; of arithmetic's problems, and of the circles of hops,
    /// a fifth at most of all there are is kept back.
    public var trainEach = 300
    public var devEach = 20
    /// Most steps of a problem; nil is 8, or half the letters.
    public var deepest: Int?
    /// P of the xLadders that climb again.
    public var passes = [2, 3, 4]
    /// δ of the xLadders in the paper's form; they read the rungs of `run` where it lists as many, else the top blocks.
    public var depths: [Int] = []
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
    /// Their standard deviation between seeds; nil for one seed.
    public var deviation: [Double]?
    public var mean: Double
    /// Generated tokens of an answer, mean.
    public var tokens: Double
    public var parameters: Int?
  }

  /// What one run of each method learns.
  private enum Part {
    case written(StepProblem.Written)
    case hops(Int)

    var name: String {
      switch self {
      case .written(let written): written.rawValue
      case .hops(let count): "hops-\(count)"
      }
    }

    var written: StepProblem.Written { if case .written(let written) = self { written } else { .none } }

    func problems(_ all: [any DepthProblem]) -> [any DepthProblem] {
      if case .hops(let count) = self { all.filter { $0.depth == count } } else { all }
    }
  }

  public let options: Options
  public let folder: String
  private let study: AccuracyStudy
  private let deepest: Int
  private let parts: [Part]
  private let dev: [any DepthProblem]
  private let train: [any DepthProblem]

  public init(_ options: Options = Options(), folder: String, model: String) throws {
    let isHops = options.problems == .hops
    deepest = options.deepest ?? (isHops ? options.letters / 2 : 8)
    guard options.trainEach >= 1, options.devEach >= 1, (1...32).contains(deepest),
      options.passes.allSatisfy({ $0 >= 2 })
    else {
      throw LadderError(
        .usage, "the depth study wants 1 or more problems of each depth, 1 to 32 steps, and passes of 2 or more")
    }
    guard StepProblem.moduli.contains(options.modulus) else {
      throw LadderError(.usage, "the depth study's modulus is 3, 5 or 7")
    }
    guard !isHops || HopProblem.letters.contains(options.letters) && deepest <= options.letters / 2 else {
      throw LadderError(
        .usage, "the depth study's hops want 4 to 26 letters, and at most half as many steps: backwards is nearer then")
    }
    self.options = options
    self.folder = folder
    (train, dev) = Self.draw(options, deepest: deepest)
    let kind = isHops ? "circles-\(options.letters)" : "modulo-\(options.modulus)"
    parts = isHops ? (1...deepest).map { .hops($0) } : StepProblem.Written.allCases.map { .written($0) }
    let (train, dev) = (train, dev), tokens = 6 * deepest + 12
    // The limits cut nothing off: they tell a study of other problems apart from one that goes on.
    let tasks = parts.map { part in
      StudyConfiguration.Task(
        name: part.name, train: "\(folder)/problems/\(part.name).\(kind).train.jsonl",
        dev: "\(folder)/problems/\(part.name).\(kind).dev.jsonl", metric: isHops ? .choice : .exact,
        trainLimit: part.problems(train).count, devLimit: part.problems(dev).count, maxTokens: isHops ? nil : tokens)
    }
    var run = options.run
    run.training.epochs = options.epochs
    run.training.batchSize = options.batchSize
    run.training.learningRate = options.learningRate
    if isHops {
      // What is looked up has to be there: a channel that is missing is a letter taken for another.
      run.training.method.tapDropout = run.training.method.tapDropout ?? 0
      run.training.objective = .choices
    }
    study = try AccuracyStudy(
      StudyConfiguration(
        model: model, seeds: options.seeds, cache: options.cache, measuresCost: false, measuresBase: false,
        options: run, tasks: tasks, methods: [StudyConfiguration.Method(.lst)] + Self.xLadders(options)),
      folder: folder)
  }

  private static func draw(
    _ options: Options, deepest: Int
  ) -> (train: [any DepthProblem], dev: [any DepthProblem]) {
    switch options.problems {
    case .arithmetic:
      let dev = StepProblem.draw(options.devEach, deepest: deepest, modulus: options.modulus, seed: 1, share: 0.2)
      let train = StepProblem.draw(
        options.trainEach, deepest: deepest, modulus: options.modulus, seed: 2, except: Set(dev))
      return (train, dev)
    case .hops:
      return HopProblem.draw(
        train: options.trainEach, dev: options.devEach, deepest: deepest, letters: options.letters)
    }
  }

  private static func xLadders(_ options: Options) -> [StudyConfiguration.Method] {
    func method(_ name: String, _ set: (inout MethodOptions) -> Void) -> StudyConfiguration.Method {
      var method = StudyConfiguration.Method(.xladder)
      method.name += name
      set(&method.options.training.method)
      return method
    }
    return options.passes.map { passes in method("-\(passes)") { $0.passes = passes } }
      + options.depths.map { depth in
        method("-depth-\(depth)") {
          $0.depth = depth
          if case .list(let rungs)? = options.run.training.method.rungs, rungs.count == depth { return }
          $0.rungs = .middle
        }
      }
  }

  /// Runs what is not done yet, and writes `depth.md`, `depth.json` and `depth.html` beside the accuracy study's own
  /// findings.
  @discardableResult
  public func run(_ runner: any Runner, report: @escaping (String) -> Void = { _ in }) throws -> [Row] {
    try DurableFile.makeFolder(folder + "/problems")
    for (part, task) in zip(parts, study.configuration.tasks) {
      try DurableFile.write(task.train, try part.problems(train).map { try $0.line(part.written) })
      try DurableFile.write(task.dev, try part.problems(dev).map { try $0.line(part.written) })
    }
    let table = try study.run(runner, report: report)
    // The runs of all numbers of hops are one row.
    let groups = options.problems == .hops ? [parts] : parts.map { [$0] }
    let rows = try groups.flatMap { parts in
      try study.configuration.methods.map { method in try row(parts, method.name, table) }
    }
    try write(rows)
    return rows
  }

  private func row(_ parts: [Part], _ method: String, _ table: AccuracyTable) throws -> Row {
    let written = parts[0].written, task = parts[0].name
    let none = [Int](repeating: 0, count: deepest)
    var rights: [[Int]] = [], asked = none, tokens = 0
    for seed in options.seeds {
      var right = none
      for part in parts {
        let lines = try DurableFile.read(study.folder.predictions(part.name, method, "seed-\(seed)")).split(
          separator: UInt8(ascii: "\n"))
        for (problem, line) in zip(part.problems(dev), lines) {
          let prediction = try JSONDecoder().decode(Evaluation.Prediction.self, from: Data(line))
          asked[problem.depth - 1] += 1
          right[problem.depth - 1] += prediction.isRight ? 1 : 0
          tokens += prediction.tokens
        }
      }
      rights.append(right)
    }
    let all = Double(max(1, asked.reduce(0, +))), seeds = Double(rights.count)
    // Each seed is judged on the same problems.
    let shares = none.indices.map { k in rights.map { Double($0[k]) * seeds / Double(max(1, asked[k])) } }
    let spreads = shares.map { MeanDeviation($0) }
    return Row(
      written: written, method: method, accuracy: spreads.map(\.mean),
      deviation: rights.count > 1 ? spreads.map(\.deviation) : nil,
      mean: Double(rights.joined().reduce(0, +)) / all,
      tokens: Double(tokens) / all, parameters: table.rows.first { $0.task == task && $0.method == method }?.parameters)
  }

  // MARK: - Findings

  /// The rows as text, a heading first.
  static func cells(_ rows: [Row]) -> [[String]] {
    let depths = (1...max(1, rows.first?.accuracy.count ?? 0)).map { "k = \($0)" }
    return [["written out", "method", "parameters"] + depths + ["all", "tokens"]] + rows.map(cells)
  }

  private static func cells(_ row: Row) -> [String] {
    let parameters = row.parameters.map { String(format: "%.2f M", Double($0) / 1e6) } ?? "–"
    let shares = row.accuracy.enumerated().map { k, share in
      String(format: "%.2f", share) + (row.deviation.map { String(format: " ± %.2f", $0[k]) } ?? "")
    }
    let tokens = row.tokens > 0 ? String(format: "%.1f", row.tokens) : "–"
    return [row.written.rawValue, row.method, parameters] + shares + [String(format: "%.3f", row.mean), tokens]
  }

  public static func markdown(_ rows: [Row]) -> String { AccuracyTable.markdown(cells(rows)) }

  private func write(_ rows: [Row]) throws {
    try DurableFile.write(folder + "/depth.json", json: rows)
    try DurableFile.write(folder + "/depth.md", [Data(Self.markdown(rows).utf8)])
    var report = HTMLReport(title: "Depth study")
    report.add(
      paragraph: (options.problems == .hops
        ? "k hops along links between \(options.letters) letters, within the token that answers. "
        : "Problems of k steps modulo \(options.modulus), each on the result of the one before. ")
        + "A guess is right one time in \(options.problems == .hops ? options.letters : options.modulus). "
        + "Each xLadder has about as many trained parameters as LST on the rungs that it reads.")
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
    guard rows.contains(where: { $0.tokens > 0 }) else { return byDepth }
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
