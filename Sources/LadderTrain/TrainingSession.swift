import LadderBackbone
import LadderCompute
import LadderData
import LadderSide

/// One side network in training: its parameters, its optimiser, and the work of one step.
///
/// For each micro-batch: take the backbone's taps, run the side network, take the frozen head's cross-entropy, go back through
/// the side network; then one AdamW step.
package final class TrainingSession {
  /// Seconds that each part of the work took since the session began.
  package struct PhaseTimes: Sendable, Equatable {
    /// The backbone's forward pass, or reading the cache.
    package var backbone = 0.0
    /// The side network, forward and backward.
    package var side = 0.0
    /// The head's cross-entropy and its gradient.
    package var head = 0.0
    package var optimiser = 0.0

    package var total: Double { backbone + side + head + optimiser }
  }

  package let backbone: Backbone
  package let network: SideNetwork
  package let optimiser: AdamW
  package let taps: CachedTaps
  /// Nil where the configuration averages nothing.
  package let average: WeightAverage?
  package private(set) var phases = PhaseTimes()
  private let configuration: TrainingConfiguration
  private let loss: CrossEntropy
  private let step: SideStep
  private let gradients: TensorPool

  /// A network whose parameters are all zero: initialise it, or restore a checkpoint.
  package init(_ backbone: Backbone, _ configuration: TrainingConfiguration, _ taps: CachedTaps) throws {
    self.backbone = backbone
    self.configuration = configuration
    self.taps = taps
    let geometry = try SideGeometry(configuration.side, backboneWidth: backbone.width, blocks: backbone.blocks)
    network = try SideNetwork(configuration.side, geometry, backbone.engine, trainable: true)
    var settings = AdamW.Settings()
    settings.weightDecay = configuration.weightDecay
    settings.clip = configuration.clip
    settings.eightBit = configuration.eightBitOptimiser
    optimiser = try AdamW(network.parameters, settings, backbone.engine)
    average = configuration.averaging > 0 ? try WeightAverage(network.parameters, backbone.engine) : nil
    loss = try CrossEntropy(backbone, filter: configuration.filtersGradient ? CrossEntropy.defaultFilter : nil)
    step = try SideStep(network, backbone)
    gradients = TensorPool(backbone.engine)
  }

  /// Sets the parameters to their starting values and the taps' statistics to those of the first samples; both from another run
  /// where the configuration names one.
  package func initialise(_ samples: [EncodedSample]) throws {
    try network.initialise(seed: configuration.seed, backbone: backbone)
    if let warm = configuration.warmStart {
      let weights = RunDirectory(warm).weightsPath
      return try network.restore(try Safetensors(path: weights), from: weights)
    }
    try network.setStatistics(try taps.statistics(samples.prefix(256).map(\.packed)))
  }

  /// The weights to use: averaged, where the configuration averages and a step was taken into the mean.
  package func export() -> Safetensors { average?.used(network.export) ?? network.export() }

  /// Bytes that the side network's activations and the head's chunks take, besides parameters and the optimiser's state.
  package var workspaceBytes: Int { step.bytes + loss.bytes + gradients.capacity }

  /// Takes one optimiser step on a batch.
  /// - Parameters:
  ///   - number: the step's number from 0, which decides the dropout. Gradients are zero before and after.
  /// - Returns: the mean loss in nats per loss row, and the gradient norm before clipping.
  /// - Throws: `interrupted` between micro-batches where the task is cancelled, `data` where the loss is not finite; the parameters
  ///   are those before the step then.
  package func take(_ batch: [EncodedSample], number: Int, learningRate: Float) throws -> (loss: Float, gradientNorm: Float) {
    let rows = batch.reduce(0) { $0 + $1.lossRows.count }
    var sum = 0.0, isWhole = false
    defer { if !isWhole { network.parameters.zeroGradients() } }
    for (index, micro) in BatchPlan.pack(Array(batch.indices), lengths: batch.map(\.tokens.count), tokens: configuration.microBatchTokens).enumerated() {
      try Cancellation.check()
      let samples = micro.map { batch[$0] }, targets = samples.flatMap(\.targets)
      try timed(\.backbone) { try step.read(samples.map(\.packed), from: taps) }
      let corrected = try timed(\.side) { try step.forward(dropout: SeededRandom(seed: configuration.seed, 3, number, index)) }  // [d, rows]
      try gradients.reset()
      let gradient = try gradients.make(.float32, [backbone.width, targets.count])
      let losses = try timed(\.head) { try loss.evaluate(corrected, targets: targets, gradient: gradient, scale: 1 / Float(rows)) }
      sum += losses.reduce(0.0) { $0 + Double($1) }
      try timed(\.side) { try step.backward(gradient) }
    }
    guard sum.isFinite else {
      throw LadderError(.data, "the loss is not finite at step \(number + 1): lower --learning-rate; the last checkpoint is intact")
    }
    let norm = try timed(\.optimiser) { try optimiser.update(learningRate: learningRate) }
    isWhole = true
    return (Float(sum / Double(max(1, rows))), norm)
  }

  /// Mean loss in nats per loss row over samples, with the weights to use.
  package func meanLoss(_ samples: [EncodedSample]) throws -> Float {
    try average?.used { try lossAsItStands(samples) } ?? lossAsItStands(samples)
  }

  private func lossAsItStands(_ samples: [EncodedSample]) throws -> Float {
    var sum = 0.0, rows = 0
    for micro in BatchPlan.pack(Array(samples.indices), lengths: samples.map(\.tokens.count), tokens: configuration.microBatchTokens) {
      try Cancellation.check()
      try step.read(micro.map { samples[$0].packed }, from: taps)
      let losses = try loss.evaluate(try step.forward(), targets: micro.flatMap { samples[$0].targets })
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
