import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods

/// What a method trains, in training: its parameters, its optimiser, and the work of one step.
///
/// For each micro-batch: read the samples (a side network: the backbone's taps), run what is trained, take the frozen head's
/// cross-entropy, go back through what is trained; then one AdamW step.
package final class TrainingSession {
  /// Seconds that each part of the work took since the session began.
  package struct PhaseTimes: Sendable, Equatable {
    /// The backbone's forward pass, or reading the cache.
    package var backbone = 0.0
    /// What is trained, forward and backward.
    package var trained = 0.0
    /// The head's cross-entropy and its gradient.
    package var head = 0.0
    package var optimiser = 0.0

    package var total: Double { backbone + trained + head + optimiser }
  }

  package let backbone: Backbone
  package let learner: any Learner
  package let optimiser: AdamW
  /// Nil where the configuration averages nothing.
  package let average: WeightAverage?
  package private(set) var phases = PhaseTimes()
  private let configuration: TrainingConfiguration
  private let loss: CrossEntropy
  private let gradients: TensorPool
  private let cache: ActivationCache?
  /// Where the configuration asks for it and there is a cache.
  package private(set) var cachedHead: CachedHead?

  /// Parameters are all zero: initialise them, or restore a checkpoint.
  /// - Parameters:
  ///   - maxTokens: the longest sample.
  ///   - cache: where the model's activations are kept; for methods that leave them as they are.
  package init(_ backbone: Backbone, _ configuration: TrainingConfiguration, maxTokens: Int, cache: ActivationCache? = nil) throws {
    self.backbone = backbone
    self.configuration = configuration
    learner = try configuration.method.tuning.learner(backbone, maxTokens: maxTokens, cache: cache)
    var settings = AdamW.Settings()
    settings.weightDecay = configuration.weightDecay
    settings.clip = configuration.clip
    settings.eightBit = configuration.eightBitOptimiser
    optimiser = try AdamW(learner.parameters, settings, backbone.engine)
    average = configuration.averaging > 0 ? try WeightAverage(learner.parameters, backbone.engine) : nil
    loss = try CrossEntropy(backbone, dense: !configuration.filtersGradient)
    gradients = TensorPool(backbone.engine)
    self.cache = cache
  }

  /// Opens the head's references for these samples in the cache.
  /// - Throws: `usage` on an accelerator.
  package func cacheHead(_ samples: [EncodedSample]) throws {
    guard let cache else { return }
    guard backbone.engine.isCPU else { throw LadderError(.usage, "--head cached runs on the CPU alone; leave it out, or pass --device CPU") }
    cachedHead = try CachedHead(backbone, try cache.references(common: HeadReferences.commonEntries(samples)))
  }

  /// Sets the parameters to their starting values, and the taps' statistics and the output's bias to those of the first samples;
  /// all from another run where the configuration names one.
  package func initialise(_ samples: [EncodedSample]) throws {
    if let warm = configuration.warmStart {
      let weights = RunDirectory(warm).weightsPath
      return try learner.restore(try Safetensors(path: weights), from: weights)
    }
    try learner.initialise(seed: configuration.seed, samples.map(\.packed))
    if let bias = learner.outputBias { try calibrate(bias, samples) }
  }

  /// Starts the bias where each of the rivals is on the mean as likely as it is frequent among the targets of some 128 rows.
  /// Without rivals it stays zero.
  private func calibrate(_ bias: Tensor, _ samples: [EncodedSample]) throws {
    let judged = Array(samples.lazy.filter { !$0.rivals.joined().isEmpty }.prefix(128))
    var rows: [AnswerPrior.Row] = []
    for micro in BatchPlan.pack(Array(judged.indices), lengths: judged.map(\.tokens.count), tokens: configuration.microBatchTokens) where rows.count < 128 {
      try Cancellation.check()
      let group = micro.map { judged[$0] }
      try learner.read(group.map(\.packed), keeps: false)
      rows += try AnswerPrior.rows(try learner.forward(dropout: nil), group, backbone)
    }
    guard let prior = AnswerPrior(rows, backbone.head) else { return }
    bias.write(try prior.bias(backbone))
  }

  /// Writes the weights to use: averaged, where the configuration averages and a step was taken into the mean.
  package func write(to run: RunDirectory) throws {
    func write() throws {
      try learner.export().write(run.weightsPath)
      try learner.writeExtras(to: run.path)
    }
    try average?.used(write) ?? write()
  }

  /// Bytes that activations and the head's chunks take, besides parameters and the optimiser's state.
  package var workspaceBytes: Int { learner.bytes + loss.bytes + (cachedHead?.bytes ?? 0) + gradients.capacity }

  /// How a step works the head.
  package enum HeadUse: Sendable {
    /// Over the whole vocabulary; where there is a cached head, its references are taken.
    case exact
    /// By the rows' references, where they have them.
    case cached
    /// The exact one counts, and is compared with the cached one.
    case both
  }

  /// How far the cached head was from the exact one in one step.
  package struct HeadDrift: Sendable, Equatable {
    /// Mean loss of the cached head less the exact one's, in nats per loss row.
    package var loss = 0.0
    /// ‖cached − exact‖ / ‖exact‖ of the gradients with respect to the head's input.
    package var gradient = 0.0
  }

  /// What one step gave.
  package struct StepResult: Sendable {
    /// Mean loss in nats per loss row.
    package var loss: Float
    /// Before clipping.
    package var gradientNorm: Float
    /// Of a step that was worked both ways.
    package var drift: HeadDrift?
  }

  /// Takes one optimiser step on a batch.
  /// - Parameter number: the step's number from 0, which decides the dropout. Gradients are zero before and after.
  /// - Throws: `interrupted` between micro-batches where the task is cancelled, `data` where the loss is not finite; the parameters
  ///   are those before the step then.
  package func take(_ batch: [EncodedSample], number: Int, learningRate: Float, head: HeadUse = .exact) throws -> StepResult {
    let rows = batch.reduce(0) { $0 + $1.lossRows.count }
    var sum = 0.0, isWhole = false, comparison = Comparison()
    defer { if !isWhole { learner.parameters.zeroGradients() } }
    for (index, micro) in BatchPlan.pack(Array(batch.indices), lengths: batch.map(\.tokens.count), tokens: configuration.microBatchTokens).enumerated() {
      try Cancellation.check()
      let samples = micro.map { batch[$0] }, targets = samples.flatMap(\.targets)
      try timed(\.backbone) { try learner.read(samples.map(\.packed)) }
      let corrected = try timed(\.trained) { try learner.forward(dropout: SeededRandom(seed: configuration.seed, 3, number, index)) }  // [d, rows]
      try gradients.reset()
      let gradient = try gradients.make(.float32, [backbone.width, targets.count])
      let losses = try timed(\.head) {
        var draws = SeededRandom(seed: configuration.seed, 4, number, index)
        return try self.losses(corrected, samples, gradient, scale: 1 / Float(rows), seed: draws.next(), head, &comparison)
      }
      sum += losses.reduce(0.0) { $0 + Double($1) }
      try timed(\.trained) { try learner.backward(gradient) }
    }
    guard sum.isFinite else {
      throw LadderError(.data, "the loss is not finite at step \(number + 1): lower --learning-rate; the last checkpoint is intact")
    }
    let norm = try timed(\.optimiser) { try optimiser.update(learningRate: learningRate) }
    isWhole = true
    return StepResult(loss: Float(sum / Double(max(1, rows))), gradientNorm: norm, drift: head == .both ? comparison.drift(rows) : nil)
  }

  // MARK: - The head

  /// The two heads' losses and gradients so far in a step.
  private struct Comparison {
    var loss = 0.0
    var difference = 0.0
    var square = 0.0
    var isWhole = true

    /// Nil where some rows had no reference.
    func drift(_ rows: Int) -> HeadDrift? {
      isWhole ? HeadDrift(loss: loss / Double(max(1, rows)), gradient: (difference / max(1e-30, square)).squareRoot()) : nil
    }
  }

  /// Losses of a micro-batch's rows, and their gradient. Shapes: corrected and gradient [d, rows].
  private func losses(
    _ corrected: Tensor, _ samples: [EncodedSample], _ gradient: Tensor, scale: Float, seed: UInt64, _ use: HeadUse, _ comparison: inout Comparison
  ) throws -> [Float] {
    let targets = samples.flatMap(\.targets), rivals = samples.flatMap(\.rivals)
    guard let cachedHead, rivals.allSatisfy(\.isEmpty) else {
      return try loss.evaluate(corrected, targets: targets, rivals: rivals, gradient: gradient, scale: scale, seed: seed)
    }
    let known = use == .exact ? nil : cachedHead.references.read(samples)
    let cached = try known.map { try cachedHead.evaluate(corrected, $0, targets: targets, gradient: gradient, scale: scale) }
    if let cached, use == .cached { return cached }
    let before = cached.map { _ in gradient.read() }
    let stores = use == .exact && cachedHead.references.stores && !cachedHead.references.hold(samples)
    var taken: [RowReference] = []
    let exact = try loss.evaluate(corrected, targets: targets, gradient: gradient, scale: scale, seed: seed) { chunk, rows in
      if stores { taken += try cachedHead.take(corrected, chunk, rows, targets: Array(targets[chunk])) }
    }
    if stores, taken.count == targets.count { cachedHead.references.write(samples, taken) }
    if let cached, let before {
      comparison.loss += zip(cached, exact).reduce(0.0) { $0 + Double($1.0 - $1.1) }
      for (a, b) in zip(before, gradient.read()) {
        comparison.difference += Double((a - b) * (a - b))
        comparison.square += Double(b * b)
      }
    } else {
      comparison.isWhole = false
    }
    return exact
  }

  /// Mean loss in nats per loss row over samples, with the weights to use.
  package func meanLoss(_ samples: [EncodedSample]) throws -> Float {
    try average?.used { try lossAsItStands(samples) } ?? lossAsItStands(samples)
  }

  private func lossAsItStands(_ samples: [EncodedSample]) throws -> Float {
    var sum = 0.0, rows = 0
    for micro in BatchPlan.pack(Array(samples.indices), lengths: samples.map(\.tokens.count), tokens: configuration.microBatchTokens) {
      try Cancellation.check()
      let samples = micro.map { samples[$0] }
      try learner.read(samples.map(\.packed))
      let losses = try loss.evaluate(try learner.forward(dropout: nil), targets: samples.flatMap(\.targets), rivals: samples.flatMap(\.rivals))
      sum += losses.reduce(0.0) { $0 + Double($1) }
      rows += losses.count
    }
    return Float(sum / Double(max(1, rows)))
  }

  private func timed<R>(_ phase: WritableKeyPath<PhaseTimes, Double>, _ work: () throws -> R) rethrows -> R {
    let start = ContinuousClock.now
    defer { phases[keyPath: phase] += (ContinuousClock.now - start).seconds }
    return try work()
  }
}
