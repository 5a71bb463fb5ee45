import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderEval
import LadderMethods
import LadderTrain

/// Loss over training compute for LST and QLoRA: a grid of sizes and budgets, each point a training of its own.
///
/// Budgets of samples give every size the same samples, and a power law goes through all of a method's points. Budgets of
/// operations (IsoFLOP; Hoffmann et al. 2022, §3.2) give every size the samples that they pay for: at each budget a
/// parabola over the size finds the least loss, and the law goes through those.
public struct ScalingStudy: Sendable {
  public struct Options: Sendable {
    public var train: String
    public var dev: String
    /// Reductions of LST, and ranks of QLoRA.
    public var reductions: [Double] = [10, 5, 2.5]
    public var ranks = [4, 16, 64]
    /// Training samples of each budget.
    public var budgets = [250, 500, 1000, 2000]
    /// Budgets in 10¹² operations, in place of those of samples.
    public var teraOperations: [Double] = []
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

  public let options: Options
  public let folder: String
  private let model: String
  private let file: GGUFFile
  private let dimensions: ModelDimensions

  public init(model: String, folder: String, _ options: Options) throws {
    guard !options.budgets.isEmpty, options.budgets.allSatisfy({ $0 >= 1 }), options.devLimit >= 1,
      options.teraOperations.allSatisfy({ $0 > 0 && $0.isFinite }),
      options.batchSize >= 1
    else {
      throw LadderError(.usage, "the scaling study wants budgets, batches and a dev set of 1 sample or more")
    }
    self.options = options
    self.folder = folder
    self.model = model
    file = try GGUFFile(path: model)
    dimensions = try ModelDimensions(file)
  }

  /// A method in one size.
  private struct Size {
    var name: String
    var options: TrainingOptions
    let method: TuningMethod
    let parameters: Int

    init(_ name: String, _ options: TrainingOptions, _ file: GGUFFile) throws {
      self.name = name
      self.options = options
      method = try options.method.chosen()
      parameters = try method.tuning.parameters(on: file).numbers
    }
  }

  private func sizes() throws -> [Size] {
    let ladders = try options.reductions.map { reduction in
      var training = TrainingOptions()
      training.method.method = .lst
      training.method.reduction = reduction
      training.learningRate = options.learningRates.lst
      return try Size("reduction \(reduction.formatted())", training, file)
    }
    return try ladders
      + options.ranks.map { rank in
        var training = TrainingOptions()
        training.method.method = .qlora
        training.method.rank = rank
        training.method.alpha = Float(2 * rank)
        training.learningRate = options.learningRates.qlora
        return try Size("rank \(rank)", training, file)
      }
  }

  /// Runs what is not done yet.
  public func run(_ runner: any Runner, report: (String) -> Void = { _ in }) throws -> Findings {
    let sizes = try sizes()
    if !options.teraOperations.isEmpty, options.reductions.count < 4 || options.ranks.count < 4 {
      // A parabola goes through three points whatever they are.
      throw LadderError(.usage, "budgets of operations want four or more sizes of each method: reductions and ranks")
    }
    let samples = try Sample.load(options.train)
    // Each run is a process with a model of its own; here its tokenizer is enough.
    let encoded = try SampleEncoder(try ModelVocabulary(path: model), maxLength: options.maxLength)
      .encode(samples, name: options.train).samples
    guard encoded.count == samples.count else {
      throw LadderError(
        .usage, "\(options.train): every sample has to be one sequence of at most \(options.maxLength) tokens here")
    }
    try DurableFile.makeFolder(folder + "/data")
    try claim()
    try writeFirst(options.devLimit, of: options.dev, to: folder + "/data/dev.jsonl")

    var points: [Point] = []
    let trainings = try trainings(sizes, encoded)
    for (index, training) in trainings.enumerated() {
      try Cancellation.check()
      let size = training.size, budget = training.samples, part = encoded.prefix(budget)
      let data = "\(folder)/data/train-\(budget).jsonl"
      try writeFirst(budget, of: options.train, to: data)
      let place = "[\(index + 1)/\(trainings.count)] \(size.method.name), \(size.name), \(budget) samples"
      report(place)
      let (loss, seconds) = try measure(size, data, budget, runner) { report("\(place): \($0)") }
      points.append(
        Point(
          method: size.method.name, size: size.name, samples: budget, tokens: part.reduce(0) { $0 + $1.tokens.count },
          compute: try operations(size, part), loss: loss, seconds: seconds, parameters: size.parameters,
          budget: training.teraOperations))
    }
    let findings = Self.findings(points)
    try write(findings)
    return findings
  }

  /// All that decides a point besides its method, size and samples: what the folder holds of another would be taken for
  /// this one's.
  private struct Claim: Codable, Equatable {
    var model, train, dev: String
    var devLimit, maxLength, batchSize: Int
    var lstRate, qloraRate: Float
  }

  private func claim() throws {
    let own = Claim(
      model: try file.fingerprint().text, train: try SHA256.hexadecimal(ofFile: options.train),
      dev: try SHA256.hexadecimal(ofFile: options.dev),
      devLimit: options.devLimit, maxLength: options.maxLength, batchSize: options.batchSize,
      lstRate: options.learningRates.lst, qloraRate: options.learningRates.qlora)
    let path = folder + "/study.json", runs = folder + "/runs"
    if let other: Claim = DurableFile.value(path), other != own, FileManager.default.fileExists(atPath: runs) {
      throw LadderError(
        .usage, "\(folder) holds a study of another model, of other samples or settings; take another `out`")
    }
    try DurableFile.write(path, json: own)
  }

  private struct Training {
    var size: Size
    var samples: Int
    var teraOperations: Double?
  }

  /// What is trained, the smallest budgets first.
  private func trainings(_ sizes: [Size], _ encoded: [EncodedSample]) throws -> [Training] {
    func lacking(_ wanted: String) -> LadderError {
      let option = options.teraOperations.isEmpty ? "budgets" : "teraOperations"
      return LadderError(
        .usage, "\(options.train) has \(encoded.count) samples, and \(wanted); take smaller `\(option)`")
    }
    if options.teraOperations.isEmpty {
      guard let most = options.budgets.max(), most <= encoded.count else { throw lacking("more were asked for") }
      return options.budgets.sorted().flatMap { budget in sizes.map { Training(size: $0, samples: budget) } }
    }
    return try options.teraOperations.sorted().flatMap { budget in
      try sizes.map { size in
        let each = try operations(size, encoded[...]) / Double(encoded.count), wanted = 1e12 * budget
        guard wanted / each <= Double(encoded.count) else {
          throw lacking("\(size.name) at \(budget.formatted()) TFLOP wants \(String(format: "%.0f", wanted / each))")
        }
        // Operations grow with the samples: the number whose operations come nearest to the budget.
        var low = 1, high = encoded.count
        while low < high {
          let middle = (low + high) / 2
          if try operations(size, encoded.prefix(middle)) < wanted { low = middle + 1 } else { high = middle }
        }
        let distances = try [low, max(1, low - 1)].map { ($0, abs(try operations(size, encoded.prefix($0)) - wanted)) }
        return Training(size: size, samples: distances.min { $0.1 < $1.1 }?.0 ?? low, teraOperations: budget)
      }
    }
  }

  /// Of one epoch.
  private func operations(_ size: Size, _ part: ArraySlice<EncodedSample>) throws -> Double {
    let tokens = part.reduce(0) { $0 + $1.tokens.count }, rows = part.reduce(0) { $0 + $1.lossRows.count }
    let load = TrainingLoad(length: tokens / max(1, part.count), tokens: tokens, lossRows: rows)
    // The head's gradient is worked over the few entries that matter, and left out.
    return try size.method.tuning.operations(dimensions, load)
      + 2 * Double(dimensions.width * dimensions.vocabulary) * Double(rows)
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
    if let known: Result = DurableFile.value(result) { return (known.loss, known.seconds) }
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
    var lines: [Data] = []
    try DataFile(source).forEach(limit: count) { record in
      lines.append(Data(try JSONText(record.json).compact) + Data("\n".utf8))
    }
    try DurableFile.write(target, lines)
  }
}
