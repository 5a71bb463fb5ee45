import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderEval
import LadderMethods
import LadderTrain

/// Loss over training compute for LST and QLoRA: a grid of sizes and budgets, each point a training of its own, and a
/// power law through each method's points.
public struct ScalingStudy: Sendable {
  public struct Options: Sendable {
    public var train: String
    public var dev: String
    /// Reductions of LST, and ranks of QLoRA.
    public var reductions: [Double] = [10, 5, 2.5]
    public var ranks = [4, 16, 64]
    /// Training samples of each budget.
    public var budgets = [250, 500, 1000, 2000]
    public var devLimit = 200
    public var maxLength = 512
    /// Samples of one step: small, so that the smallest budget has steps enough.
    public var batchSize = 4
    public var learningRates = (lst: Float(3e-4), qlora: Float(3e-4))
    public var cache: String?
    public var machine = MachineOptions()

    public init(train: String, dev: String) {
      self.train = train
      self.dev = dev
    }
  }

  public struct Point: Codable, Sendable {
    public var method: String
    /// `width 256` or `rank 16`.
    public var size: String
    public var samples: Int
    public var tokens: Int
    public var compute: Double
    public var loss: Double
    public var seconds: Double
  }

  public struct Findings: Codable, Sendable {
    public var points: [Point]
    public var fits: [String: PowerLaw]
    /// Whether the intervals of the slopes overlap; nil where a fit is missing.
    public var slopesOverlap: Bool?

    enum CodingKeys: String, CodingKey {
      case points, fits
      case slopesOverlap = "slopes_overlap"
    }
  }

  public let options: Options
  public let folder: String
  private let model: String
  private let dimensions: ModelDimensions

  public init(model: String, folder: String, _ options: Options) throws {
    guard !options.budgets.isEmpty, options.budgets.allSatisfy({ $0 >= 1 }), options.devLimit >= 1,
      options.batchSize >= 1
    else {
      throw LadderError(.usage, "the scaling study wants budgets, batches and a dev set of 1 sample or more")
    }
    self.options = options
    self.folder = folder
    self.model = model
    dimensions = try ModelDimensions(GGUFFile(path: model))
  }

  /// A method in one size.
  private struct Size {
    var name: String
    var options: TrainingOptions
    let method: Method

    init(_ name: String, _ options: TrainingOptions) throws {
      self.name = name
      self.options = options
      method = try options.method.chosen()
    }
  }

  private func sizes() throws -> [Size] {
    let ladders = try options.reductions.map { reduction in
      var training = TrainingOptions()
      training.method.method = .lst
      training.method.reduction = reduction
      training.learningRate = options.learningRates.lst
      return try Size("reduction \(reduction.formatted())", training)
    }
    return try ladders
      + options.ranks.map { rank in
        var training = TrainingOptions()
        training.method.method = .qlora
        training.method.rank = rank
        training.method.alpha = Float(2 * rank)
        training.learningRate = options.learningRates.qlora
        return try Size("rank \(rank)", training)
      }
  }

  /// Runs what is not done yet.
  public func run(_ runner: any Runner, report: (String) -> Void = { _ in }) throws -> Findings {
    let sizes = try sizes()
    let samples = try Sample.load(options.train)
    guard let most = options.budgets.max(), most <= samples.count else {
      throw LadderError(.usage, "\(options.train) has \(samples.count) samples; take smaller `budgets`")
    }
    // Each run is a process with a model of its own; here its tokenizer is enough.
    let encoded = try SampleEncoder(try ModelVocabulary(path: model), maxLength: options.maxLength)
      .encode(samples, name: options.train).samples
    try DurableFile.makeFolder(folder + "/data")
    try writeFirst(options.devLimit, of: options.dev, to: folder + "/data/dev.jsonl")

    var points: [Point] = [], done = 0
    for budget in options.budgets.sorted() {
      let data = "\(folder)/data/train-\(budget).jsonl", part = encoded.prefix(budget)
      try writeFirst(budget, of: options.train, to: data)
      let tokens = part.reduce(0) { $0 + $1.tokens.count }, rows = part.reduce(0) { $0 + $1.lossRows.count }
      for size in sizes {
        try Cancellation.check()
        done += 1
        let place =
          "[\(done)/\(sizes.count * options.budgets.count)] \(size.method.name), \(size.name), \(budget) samples"
        report(place)
        let (loss, seconds) = try measure(size, data, budget, runner) { report("\(place): \($0)") }
        let load = TrainingLoad(length: tokens / max(1, part.count), tokens: tokens, lossRows: rows)
        // The head's gradient is worked over the few entries that matter, and left out.
        let flops =
          try size.method.tuning.operations(dimensions, load) + 2 * Double(dimensions.width * dimensions.vocabulary)
          * Double(rows)
        points.append(
          Point(
            method: size.method.name, size: size.name, samples: budget, tokens: tokens, compute: flops, loss: loss,
            seconds: seconds))
      }
    }
    let findings = Self.findings(points)
    try write(findings)
    return findings
  }

  private func measure(
    _ size: Size, _ data: String, _ budget: Int, _ runner: any Runner, _ progress: (String) -> Void
  ) throws -> (loss: Double, seconds: Double) {
    struct Result: Codable {
      var loss: Double
      var seconds: Double
    }
    let name = "\(size.method.name)-\(size.name.replacingOccurrences(of: " ", with: "-"))-\(budget)"
    let place = "\(folder)/runs/\(name)", result = place + ".json"
    if FileManager.default.fileExists(atPath: result),
      let known = try? JSONDecoder().decode(Result.self, from: try DurableFile.read(result))
    {
      return (known.loss, known.seconds)
    }
    let cache = size.method.keepsActivations ? options.cache : nil
    var training = TrainingJob(model: model, data: data, out: place, options: size.options)
    training.options.maxLength = options.maxLength
    training.options.batchSize = options.batchSize
    training.cache = cache.map { CacheOptions(directory: $0) }
    training.machine = options.machine
    try runner.train(training, progress: progress)
    guard let last = try RunDirectory(place).metrics().last else {
      throw LadderError(.engine, "\(place) has no metrics")
    }
    var judging = EvaluationJob(model: model, run: place, data: folder + "/data/dev.jsonl")
    judging.metric = .loss
    judging.maxLength = options.maxLength
    judging.cache = cache
    judging.machine = options.machine
    let evaluation = try runner.evaluate(judging, progress: progress)
    let found = Result(loss: evaluation.loss, seconds: last.seconds)
    try DurableFile.write(result, json: found)
    return (found.loss, found.seconds)
  }

  private func writeFirst(_ count: Int, of source: String, to target: String) throws {
    let lines = try DurableFile.read(source).split(separator: UInt8(ascii: "\n")).prefix(count)
    try DurableFile.write(target, lines.map { Data($0) + Data("\n".utf8) })
  }

  // MARK: - Findings

  static func findings(_ points: [Point]) -> Findings {
    var fits: [String: PowerLaw] = [:]
    let methods = Self.methods(points)
    for method in methods {
      let own = points.filter { $0.method == method }
      if let law = PowerLaw(own.map { ($0.compute, $0.loss) }) { fits[method] = law }
    }
    // Intervals overlap where the highest begins before the lowest ends.
    let lows = fits.values.map(\.low), highs = fits.values.map(\.high)
    let isWhole = methods.count > 1 && fits.count == methods.count
    return Findings(
      points: points, fits: fits,
      slopesOverlap: isWhole ? (lows.max() ?? 0) <= (highs.min() ?? 0) : nil)
  }

  /// In the order of their points.
  private static func methods(_ points: [Point]) -> [String] {
    points.map(\.method).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
  }

  /// The points as text, a heading first.
  static func cells(_ findings: Findings) -> [[String]] {
    [["method", "size", "samples", "tokens", "TFLOP", "loss on dev", "seconds", "GFLOP/s"]]
      + findings.points.map { point in
        [
          point.method, point.size, String(point.samples), String(point.tokens),
          String(format: "%.1f", point.compute / 1e12),
          String(format: "%.4f", point.loss),
          String(format: "%.0f", point.seconds), String(format: "%.0f", point.compute / max(1e-9, point.seconds) / 1e9),
        ]
      }
  }

  static func sentences(_ findings: Findings) -> [String] {
    findings.fits.sorted { $0.key < $1.key }.map { method, law in
      String(
        format:
          "%@: L = %.3g · C^(−%.3f) + %.3f; slope b %.3f, the middle 90%% of resampled fits from %.3f to %.3f; "
          + "residual %.4f",
        method, law.a, law.b,
        law.c,
        law.b, law.low, law.high, law.residual)
    }
      + (findings.slopesOverlap.map {
        [$0 ? "The slopes' intervals overlap." : "The slopes' intervals do not overlap."]
      } ?? [])
  }

  public static func markdown(_ findings: Findings) -> String {
    AccuracyTable.markdown(cells(findings)) + "\n" + sentences(findings).map { $0 + "\n" }.joined()
  }

  private func write(_ findings: Findings) throws {
    try DurableFile.write(folder + "/scaling.json", json: findings)
    try DurableFile.write(folder + "/scaling.md", [Data(Self.markdown(findings).utf8)])
    var report = HTMLReport(title: "Scaling study")
    for sentence in Self.sentences(findings) { report.add(paragraph: sentence) }
    let chart = Self.chart(findings)
    report.add(chart)
    report.add("Points", table: Self.cells(findings))
    try DurableFile.write(folder + "/scaling.svg", [Data(chart.svg().utf8)])
    try DurableFile.write(folder + "/scaling.html", [Data(report.html.utf8)])
  }

  static func chart(_ findings: Findings) -> LineChart {
    var series: [LineChart.Series] = []
    for method in methods(findings.points) {
      let own = findings.points.filter { $0.method == method }.sorted { $0.compute < $1.compute }
      if own.isEmpty { continue }
      series.append(.init(method, own.map { (x: $0.compute, y: $0.loss) }, line: false))
      guard let law = findings.fits[method], let first = own.first?.compute, let last = own.last?.compute else {
        continue
      }
      let curve = (0...24).map { first * pow(last / first, Double($0) / 24) }.map { (x: $0, y: law.value($0)) }
      series.append(.init(String(format: "%@: C^(−%.3f) + %.2f", method, law.b, law.c), curve, markers: false))
    }
    var chart = LineChart(
      title: "Loss over training compute", x: "floating-point operations", y: "loss on dev, nats a token", series,
      fromZero: false)
    chart.isLogarithmic = true
    return chart
  }
}
