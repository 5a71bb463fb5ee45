import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods

/// Trains what a method adds to a frozen backbone.
///
/// The loop reads as the algorithm; the work of one step is `TrainingSession.take`.
public struct Trainer: Sendable {
  /// The frozen model.
  public let backbone: Backbone
  /// What is trained, and how.
  public let configuration: TrainingConfiguration
  /// Where the model's activations are kept; nil keeps none.
  public let cache: CacheOptions?

  /// - Parameter cache: where the model's activations are kept; only for methods that leave them as they are.
  public init(
    _ backbone: Backbone, _ configuration: TrainingConfiguration = TrainingConfiguration(), cache: CacheOptions? = nil
  ) {
    self.backbone = backbone
    self.configuration = configuration
    self.cache = cache
  }

  /// Trains until done, and writes the run's folder.
  ///
  /// Cancel the task that runs this to stop it: it saves a checkpoint and throws `interrupted`.
  /// - Parameters:
  ///   - samples: what to learn; `name` stands for them in errors.
  ///   - validation: samples to choose the best state by; the last state is kept where there are none.
  ///     `validationName` stands for them.
  ///   - run: where the results go.
  ///   - resume: continue from the folder's last checkpoint, if it has one.
  ///   - report: called with each event, on the thread that trains.
  /// - Returns: the last step.
  /// - Throws: `usage`, `data`, `inputOutput`, `interrupted`; what was saved before stays.
  @discardableResult
  public func train(
    _ samples: [Sample], name: String = "the samples", validation: [Sample]? = nil, validationName: String? = nil,
    into run: RunDirectory, resume: Bool = false, report: (TrainingEvent) -> Void = { _ in }
  ) throws(LadderError) -> TrainingStep? {
    let heldName = validation == nil ? nil : validationName ?? "the validation samples"
    return try LadderError.unify { try learn(samples, name, validation, heldName, run, resume, report) }
  }

  private func learn(
    _ samples: [Sample], _ name: String, _ validation: [Sample]?, _ heldName: String?, _ run: RunDirectory,
    _ resume: Bool, _ report: (TrainingEvent) -> Void
  ) throws -> TrainingStep? {
    try configuration.validate()
    let tuning = configuration.method.tuning
    if !tuning.keepsActivations, cache != nil {
      throw LadderError(
        .usage,
        "`cache` keeps what does not change: with `method` \(tuning.name) every block's activations do at every step; with "
          + "`blocks` N, the last N alone, what lies below them does not")
    }
    if configuration.head == .cached, cache == nil {
      throw LadderError(.usage, "`head` cached keeps what it needs in the activation cache: pass `cache` too")
    }
    let lock = try RunLock(run)
    defer { withExtendedLifetime(lock) {} }
    try run.sweep()
    let earlier = try earlier(run, resume: resume)
    if let note = earlier.flatMap({ ModelFingerprint.note(on: $0.backbone.fingerprint, in: run.path) }) {
      report(.note(note))
    }

    report(.stage("tokenising \(samples.count) samples"))
    if resume, earlier == nil { report(.note("\(run.path) holds no run to go on with; a new one begins")) }
    let beginning = earlier.map(\.began) ?? Date().timeIntervalSince1970.rounded(.down)
    backbone.language.use(configuration.chat, now: beginning.map(Date.init(timeIntervalSince1970:)))
    if configuration.chat?.template != nil { _ = try backbone.chatTemplate() }
    let encoder = configuration.encoder(backbone)
    let (examples, count) = try encoder.examples(samples, name: name), encoded = examples.flatMap(\.sequences)
    report(.samples(SampleReport(samples, name: name, kept: examples.count, count)))
    let held = try validation.map { samples in
      let (examples, count) = try encoder.examples(samples, name: heldName ?? "")
      report(.samples(SampleReport(samples, name: heldName ?? "", kept: examples.count, count)))
      return examples
    }
    let lengths = examples.map(\.tokens)

    let needs = try tuning.needs(on: backbone.outline)
    let identity = RunIdentity(
      encoded, name: name, validation: held?.flatMap(\.sequences), validationName: heldName,
      cacheFormat: try cache.map { try $0.format(for: backbone, needs) } ?? needs.format)
    try refuse(identity.differences(from: earlier?.identity ?? identity, own: needs.format))

    let longest = (examples + (held ?? [])).flatMap(\.packed).map(\.tokens.count).max() ?? 1
    let store = try cache.map { try $0.open(backbone, needs) }
    if let note = try cache?.note(on: backbone) { report(.note(note)) }
    let session = try TrainingSession(backbone, configuration, maxTokens: longest, cache: store)
    var cacheNote = CacheNote(store)
    var head = HeadPlan(cached: configuration.head == .cached)
    if configuration.head == .cached {
      try session.cacheHead(encoded)
      // A run that goes on does as it began.
      head.beginsFromReferences = earlier?.beginsFromReferences ?? session.cachedHead?.references.hold(encoded) ?? false
      head.stores = session.cachedHead?.references.stores ?? false
      if !head.isUseful {
        report(
          .cacheStopped(
            "another process is writing to it, and it does not hold these samples' references of the head yet"))
      }
    }

    func manifest(_ state: RunDirectory.CheckpointState, finished: Bool) throws -> RunDirectory.Manifest {
      var manifest = try self.manifest(state, finished: finished)
      manifest.identity = identity
      manifest.began = beginning
      manifest.beginsFromReferences = configuration.head == .cached ? head.beginsFromReferences : nil
      return manifest
    }
    var state = RunDirectory.CheckpointState(step: 0, tokens: 0, metricsBytes: 0)
    if resume, let last = try run.loadCheckpoint(session) {
      state = last
      report(.resumed(step: last.step))
    } else {
      if let preparation = tuning.preparation { report(.stage(preparation)) }
      do {
        try session.initialise(encoded)
      } catch let error as LadderError where error.kind == .interrupted {
        throw LadderError(.interrupted, "interrupted before the first step; start again")
      }
      try run.write(try manifest(state, finished: false))
    }
    let metrics = try MetricsFile(run.metricsPath, keeping: state.metricsBytes)

    let perEpoch = BatchPlan.batches(of: lengths.count, size: configuration.batchSize)
    let total = configuration.totalSteps(examples: lengths.count)
    let warmup = Int((configuration.warmup * Float(total)).rounded())
    let averagedFrom = total - max(1, Int((configuration.averaging * Float(total)).rounded()))
    let began = ContinuousClock.now, firstStep = state.step, firstTokens = state.tokens,
      firstSeconds = state.seconds ?? 0
    var last: TrainingStep?
    var plan = (epoch: -1, batches: [[Int]]())

    /// What is due once a step was taken, unless it is done: the checkpoint first, so that a process that is killed
    /// while it validates loses nothing.
    func settle() throws {
      guard state.step > 0 else { return }
      let validates = held != nil && isValidationStep(state.step, perEpoch, total) && state.validated != state.step
      if state.step > firstStep,
        state.step % configuration.checkpointEvery == 0 || state.step == total
          || (validates && state.step % perEpoch == 0)
      {
        try checkpoint(run, &state, session, metrics)
        report(.checkpoint(step: state.step))
      }
      guard validates, let held else { return }
      report(.stage("validating on \(held.count) samples"))
      let start = ContinuousClock.now, validated = try session.meanLoss(held)
      let seconds = (ContinuousClock.now - start).seconds, isBest = validated < (state.bestLoss ?? .infinity)
      if isBest {
        state.bestLoss = validated
        state.bestStep = state.step
        try session.write(to: run)
      }
      state.validated = state.step
      try metrics.amendLast(step: state.step) {
        $0.validationLoss = validated
        $0.validationSeconds = seconds
      }
      state.metricsBytes = metrics.bytes
      try run.update(state)
      report(.validation(step: state.step, loss: validated, isBest: isBest))
    }

    func step() throws {
      let epoch = state.step / perEpoch
      if plan.epoch != epoch {
        plan = (
          epoch,
          BatchPlan(lengths: lengths, batchSize: configuration.batchSize, seed: configuration.seed, epoch: epoch)
            .batches
        )
      }
      let batch = plan.batches[state.step % perEpoch]
      let rate =
        configuration.learningRate * configuration.schedule.factor(step: state.step, warmup: warmup, total: total)
      let samples = batch.map { examples[$0] }, use = head.use(state.step, perEpoch: perEpoch)
      let take = { try session.take(samples, number: state.step, learningRate: rate, head: use) }
      let (result, note) = state.step == firstStep ? try session.watching(take) : (try take(), nil)
      if let note { report(.note(note)) }
      state.step += 1
      if state.step > averagedFrom { try session.average?.add() }
      state.tokens += batch.reduce(0) { $0 + lengths[$1] }

      let seconds = max(1e-9, (ContinuousClock.now - began).seconds)
      state.seconds = firstSeconds + seconds
      let line = TrainingStep(
        step: state.step, totalSteps: total, epoch: Double(state.step) / Double(perEpoch), loss: result.loss,
        learningRate: rate,
        tokens: state.tokens, tokensPerSecond: Double(state.tokens - firstTokens) / seconds,
        peakBytes: backbone.peakBytes,
        gradientNorm: result.gradientNorm,
        secondsLeft: seconds / Double(state.step - firstStep) * Double(total - state.step),
        elapsedSeconds: state.seconds, headDrift: result.drift?.loss, headGradientDrift: result.drift?.gradient)
      head.add(result.drift)
      try metrics.append(line)
      last = line
      report(.step(line))
      cacheNote.tell(report)
    }

    do {
      try settle()
      while state.step < total {
        try step()
        try settle()
      }
    } catch let error as LadderError where error.kind == .interrupted {
      // The step that was cut short is taken again from its start, and so is a validation.
      guard state.step > 0 else { throw LadderError(.interrupted, "interrupted before the first step; start again") }
      try checkpoint(run, &state, session, metrics)
      if state.bestStep == nil { try session.write(to: run) }
      try run.write(try manifest(state, finished: false))
      throw LadderError(
        .interrupted, "interrupted at step \(state.step) of \(total); the state is saved, go on with `resume`")
    }

    if state.bestStep == nil { try session.write(to: run) }
    try run.write(try manifest(state, finished: true))
    if let drift = head.drift { report(.headDrift(steps: drift.steps, loss: drift.loss, gradient: drift.gradient)) }
    return last
  }

  // MARK: - The run's folder

  /// The run that the folder holds, where this one goes on with it.
  /// - Throws: `usage` where it may not: a run of other settings, or one that nobody asked to go on with.
  private func earlier(_ run: RunDirectory, resume: Bool) throws -> RunDirectory.Manifest? {
    guard FileManager.default.fileExists(atPath: run.manifestPath) else { return nil }
    let old = try run.manifest(),
      hasBegun = old.finished || run.hasCheckpoint || FileManager.default.fileExists(atPath: run.weightsPath)
    guard resume || !hasBegun else {
      throw LadderError(.usage, "\(run.path) already holds a run; pass `resume` to go on with it, or another `into`")
    }
    // What never took a step that was saved holds nothing to lose.
    guard resume else { return nil }
    if try !hasBegun && !old.backbone.isSame(as: backbone) { return nil }
    try old.backbone.require(backbone, run: run.path)
    var changed = configuration.differences(from: old.configuration)
    // A finished run may go on for longer.
    if old.finished { changed.removeAll { $0 == "epochs" || $0 == "steps" } }
    if !hasBegun, !changed.isEmpty { return nil }
    try refuse(changed.map { "`\($0)`" })
    return old
  }

  private func refuse(_ differences: [String]) throws {
    guard differences.isEmpty else {
      throw LadderError(
        .usage, "`resume` continues the run as it began, and these differ: \(differences.joined(separator: ", "))")
    }
  }

  private func manifest(_ state: RunDirectory.CheckpointState, finished: Bool) throws -> RunDirectory.Manifest {
    let tuning = configuration.method.tuning, outline = try tuning.outline(on: backbone.outline)
    return RunDirectory.Manifest(
      method: tuning.name,
      backbone: .init(
        name: backbone.file.name ?? (backbone.path as NSString).lastPathComponent, fingerprint: backbone.fingerprint,
        architecture: backbone.file.architecture, blocks: backbone.blocks, width: backbone.width,
        parts: backbone.fingerprints),
      configuration: configuration, parameters: try tuning.parameters(on: backbone.file).numbers,
      width: outline.width,
      layers: outline.layers, rungs: outline.rungs.isEmpty ? nil : outline.rungs, step: state.bestStep ?? state.step,
      validationLoss: state.bestLoss, finished: finished)
  }

  private func checkpoint(
    _ run: RunDirectory, _ state: inout RunDirectory.CheckpointState, _ session: TrainingSession, _ metrics: MetricsFile
  ) throws {
    state.metricsBytes = metrics.bytes
    state.averaged = session.average?.count
    try run.saveCheckpoint(state, session)
  }

  private func isValidationStep(_ step: Int, _ perEpoch: Int, _ total: Int) -> Bool {
    step == total || (configuration.validateEvery > 0 ? step % configuration.validateEvery == 0 : step % perEpoch == 0)
  }
}
