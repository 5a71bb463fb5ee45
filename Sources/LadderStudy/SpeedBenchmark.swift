import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderEval
import LadderInference
import LadderMethods
import LadderTrain

/// Training and decoding against the engine's own speed, in one process and one run.
public struct SpeedBenchmark: Sendable {
  /// What is measured, and for how long.
  public struct Options: Sendable {
    /// Tokens of a made-up sequence, where no samples are given.
    public var length = 512
    /// Its last rows that carry loss; nil takes all.
    public var lossRows: Int?
    /// Made-up sequences of one step.
    public var sequences = 1
    /// Batches that are measured.
    public var steps = 8
    /// Tokens that are decoded; 0 leaves decoding out.
    public var decodedTokens = 48
    /// Measure a second pass from the activation cache, with the exact and with the cached head.
    public var measuresCache = true
    /// List the operations of a step, and where they run.
    public var listsOperations = false
    public init() {}
  }

  /// Speeds in sample tokens per second of wall clock; shares of the training time.
  public struct Result: Codable, Sendable {
    /// The backbone's prefill alone, without taps and without the head.
    public var engineTokensPerSecond: Double
    /// The same with the taps that training reads.
    public var tappedTokensPerSecond: Double
    /// The backbone's forward pass with its own logits at every row that carries loss.
    public var engineLogitsTokensPerSecond: Double
    public var trainTokensPerSecond: Double
    public var cachedTokensPerSecond: Double?
    /// From the activation cache, with the head by its references too.
    public var cachedHeadTokensPerSecond: Double?
    /// One text, token by token: llama.cpp alone; the model as it generates here; with what is trained.
    public var decodeBaseTokensPerSecond: Double?
    public var decodeModelTokensPerSecond: Double?
    public var decodeLadderTokensPerSecond: Double?
    /// The most that the process held while it trained.
    public var peakBytes: Int
    public var weightsBytes: Int
    public var parameters: Int
    /// Of the peak: what the trained part and the head work in.
    public var workspaceBytes: Int
    public var backboneShare: Double
    public var sideShare: Double
    public var headShare: Double
    public var optimiserShare: Double
    public var tokens: Int
    public var device: String
    /// The operations of one step, and where they ran.
    package var operations: [OperationCensus.Count]?

    enum CodingKeys: String, CodingKey {
      case engineTokensPerSecond = "engine_tokens_per_second"
      case tappedTokensPerSecond = "tapped_tokens_per_second"
      case engineLogitsTokensPerSecond = "engine_logits_tokens_per_second"
      case trainTokensPerSecond = "train_tokens_per_second"
      case cachedTokensPerSecond = "cached_tokens_per_second"
      case cachedHeadTokensPerSecond = "cached_head_tokens_per_second"
      case decodeBaseTokensPerSecond = "decode_base_tokens_per_second"
      case decodeModelTokensPerSecond = "decode_model_tokens_per_second"
      case decodeLadderTokensPerSecond = "decode_ladder_tokens_per_second"
      case peakBytes = "peak_bytes"
      case weightsBytes = "weights_bytes"
      case parameters
      case workspaceBytes = "workspace_bytes"
      case backboneShare = "backbone_share"
      case sideShare = "side_share"
      case headShare = "head_share"
      case optimiserShare = "optimiser_share"
      case tokens, device, operations
    }
  }

  public let backbone: Backbone
  public let configuration: TrainingConfiguration
  public let options: Options

  public init(_ backbone: Backbone, _ configuration: TrainingConfiguration, _ options: Options = Options()) {
    self.backbone = backbone
    self.configuration = configuration
    self.options = options
  }

  /// - Parameters:
  ///   - samples: the batches' samples; nil makes up sequences of `options.length` tokens.
  ///   - report: called with what is being measured.
  public func run(_ samples: [Sample]? = nil, report: (String) -> Void = { _ in }) throws -> Result {
    try configuration.validate()
    let batches = try batches(samples)
    let longest = batches.joined().map(\.tokens.count).max() ?? 1,
      tokens = batches.joined().reduce(0) { $0 + $1.tokens.count }
    let needs = try configuration.method.needs(of: backbone.outline)

    // Memory first: nothing but training has been in this process yet.
    report("training, for its peak memory")
    let session = try TrainingSession(backbone, configuration, maxTokens: longest)
    try session.initialise(prefixes(Array(batches.joined())))
    // The largest first: nothing grows after them.
    func size(_ batch: [EncodedSample]) -> Int { batch.reduce(0) { $0 + $1.tokens.count } }
    for (index, batch) in batches.sorted(by: { size($0) > size($1) }).prefix(2).enumerated() {
      _ = try session.take(batch, number: index, learningRate: 1e-4)
    }
    let peak = backbone.peakBytes
    let census =
      options.listsOperations
      ? try backbone.engine.counting { _ = try session.take(batches[0], number: 2, learningRate: 1e-4) } : nil

    // Engine and training in turn, batch by batch, so that a machine that slows down slows both.
    let plain = try ForwardPass(backbone, rungs: [], maxTokens: longest, engineAlone: true),
      tapped = try ForwardPass(
        backbone, rungs: needs.rungs, maxTokens: longest, stopsAtLastTap: needs.endsAtLastTap)
    let whole = try ForwardPass(backbone, rungs: [], maxTokens: longest, runsHead: true, engineAlone: true)
    let pool = TensorPool(backbone.engine)
    let before = session.phases
    var engineSeconds = 0.0, tappedSeconds = 0.0, logitsSeconds = 0.0, trainSeconds = 0.0
    for (index, batch) in batches.enumerated() {
      report("batch \(index + 1) of \(batches.count)")
      engineSeconds += try seconds { try forward(batch, plain, pool, everyRow: false) }
      tappedSeconds += try seconds { try forward(batch, tapped, pool, everyRow: true, handsOut: needs.readsFinal) }
      logitsSeconds += try seconds { try forward(batch, whole, pool, everyRow: true, handsOut: false) }
      trainSeconds += try seconds { _ = try session.take(batch, number: 2 + index, learningRate: 1e-4) }
    }
    let phases = session.phases, total = max(1e-9, phases.total - before.total)

    var result = Result(
      engineTokensPerSecond: Double(tokens) / engineSeconds, tappedTokensPerSecond: Double(tokens) / tappedSeconds,
      engineLogitsTokensPerSecond: Double(tokens) / logitsSeconds,
      trainTokensPerSecond: Double(tokens) / trainSeconds, peakBytes: peak, weightsBytes: backbone.weightsBytes,
      parameters: session.learner.parameters.count, workspaceBytes: session.workspaceBytes,
      backboneShare: (phases.backbone - before.backbone) / total,
      sideShare: (phases.trained - before.trained) / total, headShare: (phases.head - before.head) / total,
      optimiserShare: (phases.optimiser - before.optimiser) / total, tokens: tokens, device: backbone.deviceName)
    result.operations = census?.counts
    if options.measuresCache, configuration.method.tuning.keepsActivations {
      report("training from the activation cache")
      let cached = try cachedSeconds(batches, needs, longest)
      result.cachedTokensPerSecond = Double(tokens) / cached.exact
      result.cachedHeadTokensPerSecond = cached.references.map { Double(tokens) / $0 }
    }
    if options.decodedTokens > 0 {
      report("decoding")
      let decoding = try decoding(session.learner.predictor, after: Array(batches[0][0].tokens.prefix(64)))
      result.decodeBaseTokensPerSecond = decoding.engine
      result.decodeModelTokensPerSecond = decoding.model
      result.decodeLadderTokensPerSecond = decoding.trained
    }
    return result
  }

  /// What two real steps took.
  public struct TwoSteps: Codable, Sendable {
    public var peakBytes: Int
    public var secondsPerThousandTokens: Double
    /// Samples of a step.
    public var sequences: Int

    public init(peakBytes: Int, secondsPerThousandTokens: Double, sequences: Int) {
      self.peakBytes = peakBytes
      self.sequences = sequences
      self.secondsPerThousandTokens = secondsPerThousandTokens
    }

    enum CodingKeys: String, CodingKey {
      case peakBytes = "peak_bytes"
      case secondsPerThousandTokens = "seconds_per_1000_tokens"
      case sequences
    }
  }

  /// Trains for two steps and nothing else; the second is the one that is timed.
  public func twoSteps(report: (String) -> Void = { _ in }) throws -> TwoSteps {
    try configuration.validate()
    let batches = try batches(nil)
    let session = try TrainingSession(backbone, configuration, maxTokens: options.length)
    report("step 1 of 2")
    try session.initialise(prefixes(batches[0]))
    _ = try session.take(batches[0], number: 0, learningRate: 1e-4)
    report("step 2 of 2")
    let last = batches[batches.count - 1]
    let elapsed = try seconds { _ = try session.take(last, number: 1, learningRate: 1e-4) }
    return TwoSteps(
      peakBytes: backbone.peakBytes,
      secondsPerThousandTokens: 1000 * elapsed / Double(last.reduce(0) { $0 + $1.tokens.count }),
      sequences: last.count)
  }

  // MARK: - Parts

  private func batches(_ samples: [Sample]?) throws -> [[EncodedSample]] {
    if let samples {
      let encoded = try SampleEncoder(backbone, maxLength: configuration.maxLength, overlong: configuration.overlong)
        .encode(samples, name: "the samples")
        .samples
      let plan = BatchPlan(
        lengths: encoded.map(\.tokens.count), batchSize: configuration.batchSize, seed: configuration.seed, epoch: 0)
      return plan.batches.prefix(options.steps).map { $0.map { encoded[$0] } }
    }
    var random = SeededRandom(seed: configuration.seed, 17)
    let length = options.length, bound = UInt64(min(backbone.vocabulary, 250))
    let first = length - min(length, max(1, options.lossRows ?? length))
    return (0..<options.steps).map { _ in
      (0..<options.sequences).compactMap { _ in
        let sequence = (0...length).map { _ in Int32(random.next() % bound) }
        return EncodedSample(sequence: sequence, learned: sequence.indices.map { $0 > first })
      }
    }
  }

  /// The taps' statistics need some tokens, not all of a long sequence that is made up.
  private func prefixes(_ samples: [EncodedSample]) -> [EncodedSample] {
    samples.map { sample in
      guard sample.tokens.count > 1024 else { return sample }
      return EncodedSample(sequence: Array(sample.tokens.prefix(1024)), learned: [Bool](repeating: true, count: 1024))
        ?? sample
    }
  }

  private func forward(
    _ batch: [EncodedSample], _ pass: ForwardPass, _ pool: TensorPool, everyRow: Bool, handsOut: Bool = true
  ) throws {
    let lengths = batch.map(\.tokens.count)
    for micro in BatchPlan.pack(Array(batch.indices), lengths: lengths, tokens: configuration.microBatchTokens) {
      let samples = micro.map { i in
        everyRow ? batch[i].packed : PackedSample(tokens: batch[i].tokens, lossRows: [lengths[i] - 1])
      }
      try pool.reset()
      let n = samples.reduce(0) { $0 + $1.tokens.count }
      let taps = try pass.rungs.map { _ in try pool.make(.bfloat16, [backbone.width, n]) }
      let final =
        everyRow && handsOut
        ? try pool.make(.float32, [backbone.width, samples.reduce(0) { $0 + $1.lossRows.count }]) : nil
      try pass.run(samples, taps: taps, final: final)
    }
  }

  /// Seconds of a second pass with the exact head, and with the cached one where rows have no rivals.
  private func cachedSeconds(_ batches: [[EncodedSample]], _ needs: TapNeeds, _ longest: Int) throws -> (
    exact: Double, references: Double?
  ) {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("ladder-bench-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let cache = try CacheOptions(directory: folder).open(backbone, needs, longest: longest)
    let session = try TrainingSession(backbone, configuration, maxTokens: longest, cache: cache)
    let samples = Array(batches.joined())
    try session.initialise(samples)
    let hasReferences = backbone.deviceName == "CPU" && samples.allSatisfy { $0.rivals.joined().isEmpty }
    if hasReferences { try session.cacheHead(samples) }
    func pass(_ head: HeadUse) throws {
      for (index, batch) in batches.enumerated() {
        _ = try session.take(batch, number: index, learningRate: 1e-4, head: head)
      }
    }
    try pass(.exact)
    if let stopped = cache.stopped { throw LadderError(.inputOutput, "no room for the cache in \(folder): \(stopped)") }
    return (try seconds { try pass(.exact) }, hasReferences ? try seconds { try pass(.cached) } : nil)
  }

  func seconds(_ work: () throws -> Void) rethrows -> Double {
    let start = ContinuousClock.now
    try work()
    return (ContinuousClock.now - start).seconds
  }
}
