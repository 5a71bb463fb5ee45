import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods

/// What a method trains, in training: its parameters, its optimiser, and the work of one step.
///
/// For each micro-batch: read the samples (a side network: the backbone's taps), run what is trained, take the frozen
/// head's cross-entropy, go back through what is trained; then one AdamW step. Of several ranks each works its part of
/// the batch, and takes the same step.
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
    /// Waiting for the other ranks.
    package var exchange = 0.0

    package var total: Double { backbone + trained + head + optimiser + exchange }
  }

  package let backbone: Backbone
  package let learner: any Learner
  package let optimiser: AdamW
  /// Nil where the configuration averages nothing.
  package let average: WeightAverage?
  package private(set) var phases = PhaseTimes()
  private let configuration: TrainingConfiguration
  private let objective: any TrainingObjective
  private let gradients: TensorPool
  private let cache: ActivationCache?
  let ranks: Ranks
  /// With several ranks.
  private let exchange: GradientExchange?
  /// The micro-batch that the learner has read ahead, with several ranks.
  private var ahead: [TrainingExample]?
  private var likelihood: LikelihoodObjective? { objective as? LikelihoodObjective }
  /// Where the configuration asks for it and there is a cache.
  package var cachedHead: CachedHead? { likelihood?.cachedHead }

  /// Parameters are all zero: initialise them, or restore a checkpoint.
  /// - Parameters:
  ///   - maxTokens: the longest sample.
  ///   - cache: where the model's activations are kept; for methods that leave them as they are.
  ///   - ranks: that share each batch.
  package init(
    _ backbone: Backbone, _ configuration: TrainingConfiguration, maxTokens: Int, cache: ActivationCache? = nil,
    ranks: Ranks = Ranks()
  ) throws {
    self.backbone = backbone
    self.configuration = configuration
    learner = try configuration.method.tuning.learner(backbone, maxTokens: maxTokens, cache: cache)
    var settings = AdamW.Settings()
    settings.weightDecay = configuration.weightDecay
    settings.clip = configuration.clip
    settings.eightBit = configuration.eightBitOptimiser
    optimiser = try AdamW(learner.parameters, settings, backbone.engine)
    average = configuration.averaging > 0 ? try WeightAverage(learner.parameters, backbone.engine) : nil
    objective = try configuration.objective(backbone)
    gradients = TensorPool(backbone.engine)
    self.cache = cache
    self.ranks = ranks
    let learner = learner, format = configuration.gradientFormat ?? .float32
    exchange = ranks.group.map {
      GradientExchange(learner.parameters, order: learner.gradientParts, $0, format: format)
    }
  }

  /// Opens the head's references for these samples in the cache.
  /// - Throws: `usage` on an accelerator.
  package func cacheHead(_ samples: [EncodedSample]) throws {
    if let cache { try likelihood?.cacheHead(samples, in: cache) }
  }

  /// Sets the parameters to their starting values, and the taps' statistics and the output's bias to those of the first
  /// samples; all from another run where the configuration names one.
  package func initialise(_ samples: [EncodedSample]) throws {
    if let warm = configuration.warmStart {
      let weights = try RunDirectory(warm).weights(for: configuration, on: backbone)
      return try learner.restore(try Safetensors(path: weights), from: weights)
    }
    try learner.initialise(seed: configuration.seed, samples.map(\.packed))
    if let bias = learner.outputBias { try calibrate(bias, samples) }
  }

  /// Starts the bias where each of the rivals is on the mean as likely as it is frequent among the targets of some 128
  /// rows, of samples spread evenly over all: they may lie in the order of their answers. Without rivals it stays zero.
  private func calibrate(_ bias: Tensor, _ samples: [EncodedSample]) throws {
    let all = samples.filter { !$0.rivals.joined().isEmpty }
    let judgedRows = all.reduce(0) { $0 + $1.rivals.count { !$0.isEmpty } }
    let judged = all.spread(min(all.count, max(1, 128 * all.count / max(1, judgedRows))))
    var rows: [AnswerPrior.Row] = []
    for micro in BatchPlan.pack(
      Array(judged.indices), lengths: judged.map(\.tokens.count), tokens: configuration.microBatchTokens
    ) {
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
      try FileSet.write(in: run.path) { folder in
        try learner.export().write("\(folder)/\(RunDirectory.weightsName)")
        try learner.writeExtras(to: folder)
      }
    }
    try average?.used(write) ?? write()
  }

  /// Bytes that activations and the head's chunks take, besides parameters and the optimiser's state.
  package var workspaceBytes: Int {
    learner.bytes + objective.bytes + gradients.capacity + (exchange?.bytes ?? 0) + (average?.bytes ?? 0)
  }

  /// What one step gave.
  package struct StepResult: Sendable {
    /// The mean loss: nats per loss row, or per pair of answers.
    package var loss: Float
    /// Before clipping.
    package var gradientNorm: Float
    /// Of a step that was worked both ways.
    package var drift: HeadDrift?
  }

  /// Takes a step, and says which of its operations an accelerator left to the processor.
  /// - Returns: what the step gave, and a line for the user; nil where there is nothing to say.
  package func watching(_ take: () throws -> StepResult) throws -> (StepResult, note: String?) {
    if backbone.engine.isCPU { return (try take(), nil) }
    var result: StepResult?
    let census = try backbone.engine.counting { result = try take() }
    guard let result else { throw LadderError(.engine, "no step was taken") }
    return (result, census.note(device: backbone.engine.name))
  }

  /// Takes one optimiser step on a batch.
  /// - Parameters:
  ///   - number: the step's number from 0, which decides the dropout. Gradients are zero before and after.
  ///   - next: the batch of the next step. What the model makes of it depends on nothing that is learned, so several
  ///     ranks read its first micro-batch while their gradients travel.
  /// - Throws: `interrupted` between micro-batches where the task is cancelled, `data` where the loss is not finite;
  ///   the parameters are those before the step then.
  package func take(
    _ batch: [TrainingExample], number: Int, learningRate: Float, head: HeadUse = .exact,
    next: [TrainingExample]? = nil
  ) throws -> StepResult {
    // The whole batch's, which every rank knows: no gradient waits for it.
    let weight = batch.reduce(0) { $0 + objective.weight($1) }
    var isWhole = false
    defer { if !isWhole { learner.parameters.zeroGradients() } }
    likelihood?.begin(head)
    try evenOut(number)
    let sum = try together(batch, next) { try accumulate($0, number: number, weight: weight, finished: $1) }
    guard sum.isFinite else {
      throw LadderError(
        .data, "the loss is not finite at step \(number + 1): lower `learningRate`; the last checkpoint is intact")
    }
    let norm = try timed(\.optimiser) { try optimiser.update(learningRate: learningRate) }
    isWhole = true
    return StepResult(loss: Float(sum / Double(max(1, weight))), gradientNorm: norm, drift: likelihood?.drift(weight))
  }

  /// Adds the gradient of a batch's losses over `weight`.
  /// - Parameter finished: called with each of the learner's `gradientParts` that nothing more is added to.
  /// - Returns: the summed losses.
  private func accumulate(_ batch: [TrainingExample], number: Int, weight: Int, finished: (Int) throws -> Void) throws
    -> Double
  {
    var sum = 0.0
    let groups = microBatches(batch)
    for (place, examples) in groups.enumerated() {
      // Ranks draw each for itself.
      let index = place + ranks.rank << 32
      try Cancellation.check()
      if ahead != examples { try timed(\.backbone) { try learner.read(examples.flatMap(\.packed)) } }
      ahead = nil
      try timed(\.head) { try objective.prepare(examples, learner) }
      let rows = try timed(\.trained) {
        try learner.forward(dropout: SeededRandom(seed: configuration.seed, 3, number, index))
      }  // [d, rows]
      try gradients.reset()
      let gradient = try gradients.make(.float32, [backbone.width, rows[1]])
      sum += try timed(\.head) {
        var draws = SeededRandom(seed: configuration.seed, 4, number, index)
        return try objective.evaluate(rows, examples, gradient: gradient, scale: 1 / Float(weight), seed: draws.next())
      }
      try timed(\.trained) { try learner.backward(gradient) { if place == groups.count - 1 { try finished($0) } } }
    }
    return sum
  }

  /// The same on samples.
  package func take(_ batch: [EncodedSample], number: Int, learningRate: Float, head: HeadUse = .exact) throws
    -> StepResult
  {
    try take(batch.map { TrainingExample([$0]) }, number: number, learningRate: learningRate, head: head)
  }

  /// The mean loss over examples, with the weights to use.
  package func meanLoss(_ examples: [TrainingExample]) throws -> Float {
    try average?.used { try lossAsItStands(examples) } ?? lossAsItStands(examples)
  }

  private func lossAsItStands(_ examples: [TrainingExample]) throws -> Float {
    var sum = 0.0
    ahead = nil
    for group in microBatches(ranks.part(lengths: examples.map(\.tokens)).map { examples[$0] }) {
      try Cancellation.check()
      try learner.read(group.flatMap(\.packed))
      try objective.prepare(group, learner)
      sum += try objective.evaluate(try learner.forward(dropout: nil), group, gradient: nil, scale: 1, seed: 0)
    }
    return Float(try ranks.sum(sum) / Double(max(1, examples.reduce(0) { $0 + objective.weight($1) })))
  }

  // MARK: - Ranks

  /// Works this rank's part of a batch and sums all ranks' gradients, as far as they are done with meanwhile.
  /// - Returns: the summed losses of all.
  private func together(
    _ batch: [TrainingExample], _ next: [TrainingExample]?,
    _ work: ([TrainingExample], (Int) throws -> Void) throws -> Double
  ) throws -> Double {
    guard let exchange else { return try work(batch) { _ in } }
    func own(_ batch: [TrainingExample]) -> [TrainingExample] {
      ranks.part(lengths: batch.map(\.tokens)).map { batch[$0] }
    }
    exchange.begin()
    let sum: Double
    do {
      sum = try work(own(batch), exchange.ready)
      exchange.readyAll()
      if !Task.isCancelled, let first = next.flatMap({ microBatches(own($0)).first }) {
        try timed(\.backbone) { try learner.read(first.flatMap(\.packed)) }
        ahead = first
      }
    } catch {
      // The others wait for what they were promised, and learn then that it is worth nothing.
      try? exchange.finish()
      ranks.abandon(error)
      throw error
    }
    return try timed(\.exchange) {
      try exchange.finish()
      return try ranks.sum(sum)
    }
  }

  private func microBatches(_ batch: [TrainingExample]) -> [[TrainingExample]] {
    BatchPlan.pack(Array(batch.indices), lengths: batch.map(\.tokens), tokens: configuration.microBatchTokens).map {
      $0.map { batch[$0] }
    }
  }

  private func timed<R>(_ phase: WritableKeyPath<PhaseTimes, Double>, _ work: () throws -> R) rethrows -> R {
    let start = ContinuousClock.now
    defer { phases[keyPath: phase] += (ContinuousClock.now - start).seconds }
    return try work()
  }
}
