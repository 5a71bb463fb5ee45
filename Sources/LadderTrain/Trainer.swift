import Foundation
import LadderBackbone
import LadderCompute
import LadderData
import LadderSide

/// Trains a side network on a frozen backbone.
///
/// The loop reads as the algorithm: for each batch, for each micro-batch, run the backbone and keep its taps, run the side
/// network, take the frozen head's cross-entropy, go back through the side network; then one AdamW step.
public struct Trainer: Sendable {
  public let backbone: Backbone
  public let configuration: TrainingConfiguration

  public init(_ backbone: Backbone, _ configuration: TrainingConfiguration = TrainingConfiguration()) {
    self.backbone = backbone
    self.configuration = configuration
  }

  /// Trains until done, and writes the run's folder.
  ///
  /// Cancel the task that runs this to stop it: it saves a checkpoint and throws `interrupted`.
  /// - Parameters:
  ///   - samples: what to learn; `name` stands for them in errors.
  ///   - validation: samples to choose the best state by; the last state is kept where there are none.
  ///   - run: where the results go.
  ///   - resume: continue from the folder's last checkpoint, if it has one.
  ///   - report: called with each event, on the thread that trains.
  /// - Returns: the last step.
  /// - Throws: `usage`, `data`, `inputOutput`, `interrupted`; what was saved before stays.
  @discardableResult
  public func train(
    _ samples: [Sample], name: String = "the samples", validation: [Sample]? = nil, into run: RunDirectory, resume: Bool = false,
    report: (TrainingEvent) -> Void = { _ in }
  ) throws -> TrainingStep? {
    try configuration.validate()
    let geometry = try SideGeometry(configuration.side, backboneWidth: backbone.width, blocks: backbone.blocks)
    try prepare(run, geometry, resume: resume)

    report(.stage("tokenising \(samples.count) samples"))
    let encoder = SampleEncoder(backbone, maxLength: configuration.maxLength, overlong: configuration.overlong)
    let (encoded, count) = try encoder.encode(samples, name: name)
    report(.samples(kept: encoded.count, trimmed: count.trimmed, dropped: count.dropped))
    let held = try validation.map { try encoder.encode($0, name: "the validation samples").samples }
    let lengths = encoded.map(\.tokens.count)

    let network = try SideNetwork(configuration.side, geometry, backbone.engine, trainable: true)
    var settings = AdamW.Settings()
    settings.weightDecay = configuration.weightDecay
    settings.clip = configuration.clip
    let optimiser = try AdamW(network.parameters, settings, backbone.engine)
    let longest = max(lengths.max() ?? 1, held?.map(\.tokens.count).max() ?? 1)
    let forward = try ForwardPass(backbone, rungs: geometry.rungs, maxTokens: longest)
    let loss = try CrossEntropy(backbone, filter: configuration.filtersGradient ? CrossEntropy.defaultFilter : nil)
    let step = try SideStep(network, backbone)
    let gradients = TensorPool(backbone.engine)

    var state = RunDirectory.CheckpointState(step: 0, tokens: 0, metricsBytes: 0)
    if resume, let last = run.checkpoints().last {
      state = try run.loadCheckpoint(last, network, optimiser)
      report(.resumed(step: last))
    } else {
      try network.initialise(seed: configuration.seed, backbone: backbone)
      report(.stage("measuring the taps' means and deviations"))
      try network.setStatistics(try TapStatistics.measure(encoded.prefix(256).map(\.tokens), forward))
    }
    let metrics = try MetricsFile(run.metricsPath, keeping: state.metricsBytes)

    let perEpoch = BatchPlan(lengths: lengths, batchSize: configuration.batchSize, seed: 0, epoch: 0).batches.count
    let total = configuration.steps ?? max(1, Int((configuration.epochs * Double(perEpoch)).rounded(.up)))
    let warmup = Int((configuration.warmup * Float(total)).rounded())
    let began = ContinuousClock.now, firstStep = state.step, firstTokens = state.tokens
    var last: TrainingStep?
    var plan = (epoch: -1, batches: [[Int]]())

    while state.step < total {
      let epoch = state.step / perEpoch
      if plan.epoch != epoch {
        plan = (epoch, BatchPlan(lengths: lengths, batchSize: configuration.batchSize, seed: configuration.seed, epoch: epoch).batches)
      }
      let batch = plan.batches[state.step % perEpoch]
      let lossRows = batch.reduce(0) { $0 + encoded[$1].lossRows.count }
      var batchLoss = 0.0
      network.parameters.zeroGradients()

      for (index, micro) in BatchPlan.pack(batch, lengths: lengths, tokens: configuration.microBatchTokens).enumerated() {
        if Task.isCancelled {
          try saveInterrupted(run, state, network, optimiser, metrics, geometry)
          throw LadderError(.interrupted, "interrupted at step \(state.step) of \(total); the state is saved, go on with --resume")
        }
        let packed = micro.map { encoded[$0].packed }, targets = micro.flatMap { encoded[$0].targets }
        try step.read(packed, from: forward)
        let rows = try step.forward(dropout: SeededRandom(seed: configuration.seed, 3, state.step, index))  // [d, rows]
        try gradients.reset()
        let gradient = try gradients.make(.float32, [backbone.width, targets.count])
        let losses = try loss.evaluate(rows, targets: targets, gradient: gradient, scale: 1 / Float(lossRows))
        batchLoss += losses.reduce(0.0) { $0 + Double($1) }
        try step.backward(gradient)
      }

      guard batchLoss.isFinite else {
        throw LadderError(.data, "the loss is not finite at step \(state.step + 1): lower --learning-rate; the last checkpoint is intact")
      }
      let rate = configuration.learningRate * configuration.schedule.factor(step: state.step, warmup: warmup, total: total)
      let norm = try optimiser.update(learningRate: rate)
      state.step += 1
      state.tokens += batch.reduce(0) { $0 + lengths[$1] }

      let seconds = max(1e-9, (ContinuousClock.now - began).seconds)
      let line = TrainingStep(
        step: state.step, totalSteps: total, epoch: Double(state.step) / Double(perEpoch), loss: Float(batchLoss / Double(max(1, lossRows))),
        learningRate: rate, tokens: state.tokens, tokensPerSecond: Double(state.tokens - firstTokens) / seconds,
        peakBytes: backbone.peakBytes, gradientNorm: norm, secondsLeft: seconds / Double(state.step - firstStep) * Double(total - state.step))
      try metrics.append(line)
      last = line
      report(.step(line))

      if let held, isValidationStep(state.step, perEpoch, total) {
        report(.stage("validating on \(held.count) samples"))
        let validated = try Self.meanLoss(held, forward, step, loss, tokens: configuration.microBatchTokens)
        let isBest = validated < (state.bestLoss ?? .infinity)
        if isBest {
          state.bestLoss = validated
          state.bestStep = state.step
          try network.export().write(run.weightsPath)
        }
        report(.validation(step: state.step, loss: validated, isBest: isBest))
      }
      if state.step % configuration.checkpointEvery == 0 || state.step == total {
        try checkpoint(run, &state, network, optimiser, metrics)
        report(.checkpoint(step: state.step))
      }
    }

    if state.bestStep == nil { try network.export().write(run.weightsPath) }
    try run.write(manifest(geometry, network, state, finished: true))
    return last
  }

  /// Mean loss in nats per loss row over samples.
  static func meanLoss(_ samples: [EncodedSample], _ forward: ForwardPass, _ step: SideStep, _ loss: CrossEntropy, tokens: Int) throws -> Float {
    var sum = 0.0, rows = 0
    for micro in BatchPlan.pack(Array(samples.indices), lengths: samples.map(\.tokens.count), tokens: tokens) {
      try Cancellation.check()
      try step.read(micro.map { samples[$0].packed }, from: forward)
      let losses = try loss.evaluate(try step.forward(), targets: micro.flatMap { samples[$0].targets })
      sum += losses.reduce(0.0) { $0 + Double($1) }
      rows += losses.count
    }
    return Float(sum / Double(max(1, rows)))
  }

  // MARK: - The run's folder

  private func prepare(_ run: RunDirectory, _ geometry: SideGeometry, resume: Bool) throws {
    let exists = FileManager.default.fileExists(atPath: run.manifestPath)
    if exists {
      let old = try run.manifest()
      guard resume else {
        throw LadderError(.usage, "\(run.path) already holds a run; pass --resume to go on with it, or another --out")
      }
      guard old.backbone.fingerprint == backbone.fingerprint else {
        throw LadderError(
          .data,
          "\(run.path) was trained on \(old.backbone.name) (fingerprint \(old.backbone.fingerprint)), and \(backbone.path) has fingerprint \(backbone.fingerprint)"
        )
      }
      let changed = configuration.differences(from: old.configuration)
      guard changed.isEmpty else {
        throw LadderError(.usage, "--resume continues the run as it began, and these settings differ: \(changed.joined(separator: ", "))")
      }
      return
    }
    try DurableFile.makeFolder(run.checkpointsPath)
    let state = RunDirectory.CheckpointState(step: 0, tokens: 0, metricsBytes: 0)
    try run.write(manifest(geometry, nil, state, finished: false))
  }

  private func manifest(_ geometry: SideGeometry, _ network: SideNetwork?, _ state: RunDirectory.CheckpointState, finished: Bool) -> RunDirectory.Manifest {
    let specifications = SideNetwork.specifications(configuration.side, geometry)
    return RunDirectory.Manifest(
      backbone: .init(
        name: backbone.file.name ?? (backbone.path as NSString).lastPathComponent, fingerprint: backbone.fingerprint,
        architecture: backbone.file.architecture, blocks: backbone.blocks, width: backbone.width),
      configuration: configuration, parameters: specifications.reduce(0) { $0 + $1.count }, width: geometry.width, rungs: geometry.rungs,
      step: state.bestStep ?? state.step, validationLoss: state.bestLoss, finished: finished)
  }

  private func checkpoint(
    _ run: RunDirectory, _ state: inout RunDirectory.CheckpointState, _ network: SideNetwork, _ optimiser: AdamW, _ metrics: MetricsFile
  ) throws {
    state.metricsBytes = metrics.bytes
    try run.saveCheckpoint(state, network, optimiser)
  }

  /// Saves the state before the step that was cut short, which is taken again from its start.
  private func saveInterrupted(
    _ run: RunDirectory, _ state: RunDirectory.CheckpointState, _ network: SideNetwork, _ optimiser: AdamW, _ metrics: MetricsFile, _ geometry: SideGeometry
  ) throws {
    if state.step == 0 { return }
    var state = state
    try checkpoint(run, &state, network, optimiser, metrics)
    if state.bestStep == nil { try network.export().write(run.weightsPath) }
    try run.write(manifest(geometry, network, state, finished: false))
  }

  private func isValidationStep(_ step: Int, _ perEpoch: Int, _ total: Int) -> Bool {
    step == total || (configuration.validateEvery > 0 ? step % configuration.validateEvery == 0 : step % perEpoch == 0)
  }
}

extension Duration {
  /// In seconds, as a number.
  package var seconds: Double {
    let (whole, fraction) = components
    return Double(whole) + Double(fraction) * 1e-18
  }
}
