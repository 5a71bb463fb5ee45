import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods

/// One training, from its first look into the run's folder to its last step.
final class TrainingLoop {
  private let backbone: Backbone
  private let configuration: TrainingConfiguration
  private let ranks: Ranks
  private let report: (TrainingEvent) -> Void
  /// Of the first rank.
  private let record: RunRecord?
  private let session: TrainingSession
  private let examples: [TrainingExample]
  private let held: [TrainingExample]?
  private var state = RunDirectory.CheckpointState(step: 0, tokens: 0, metricsBytes: 0)
  private var head: HeadPlan
  private var cacheNote: CacheNote

  private let lengths: [Int]
  private let perEpoch: Int
  private let total: Int
  private let warmup: Int
  private let averagedFrom: Int
  private var plan = (epoch: -1, batches: [[Int]]())
  private var last: TrainingStep?

  // Where this process began.
  private let start: ContinuousClock.Instant
  private let firstStep: Int
  private let firstTokens: Int
  private let firstSeconds: Double

  /// Reads the samples and gets everything ready for the first step, or the next one.
  init(
    _ trainer: Trainer, _ samples: NamedSamples, validation: NamedSamples?, into run: RunDirectory, resume: Bool,
    _ ranks: Ranks, report: @escaping (TrainingEvent) -> Void
  ) throws {
    let backbone = trainer.backbone, configuration = trainer.configuration
    self.backbone = backbone
    self.configuration = configuration
    self.ranks = ranks
    self.report = report
    try Self.check(trainer, ranks)
    let record = try ranks.together { ranks.isFirst ? try RunRecord(run, trainer, resume: resume) : nil }
    self.record = record
    let earlier = record?.earlier
    if let note = earlier.flatMap({ ModelFingerprint.note(on: $0.backbone.fingerprint, in: run.path) }) {
      report(.note(note))
    }

    report(.stage("tokenising \(samples.samples.count) samples"))
    if resume, earlier == nil { report(.note("\(run.path) holds no run to go on with; a new one begins")) }
    // An earlier run may not know when it began.
    let began = try ranks.shared(earlier.map(\.began) ?? Date().timeIntervalSince1970.rounded(.down))
    record?.began = began
    let language = try backbone.language.separate()
    language.use(configuration.chat, now: began.map(Date.init(timeIntervalSince1970:)))
    if configuration.chat?.template != nil { _ = try language.chatTemplate() }
    let encoder = configuration.encoder(language)
    func encode(_ samples: NamedSamples) throws -> [TrainingExample] {
      let (examples, count) = try encoder.examples(samples.samples, name: samples.name)
      report(.samples(SampleReport(samples.samples, name: samples.name, kept: examples.count, count)))
      return examples
    }
    let examples = try encode(samples), held = try validation.map(encode)
    self.examples = examples
    self.held = held
    let encoded = examples.flatMap(\.sequences)
    lengths = examples.map(\.tokens)

    let tuning = configuration.method.tuning, needs = try tuning.needs(on: backbone.outline)
    let identity = RunIdentity(
      encoded, name: samples.name, validation: held?.flatMap(\.sequences), validationName: validation?.name,
      cacheFormat: try trainer.cache.map { try $0.format(for: backbone, needs) } ?? needs.format)
    try record?.require(identity, own: needs.format)
    try ranks.require(same: identity, configuration, backbone.fingerprint)

    let all = (examples + (held ?? [])).flatMap(\.packed), longest = all.map(\.tokens.count).max() ?? 1
    let store = try trainer.cache.map { try $0.open(backbone, needs, longest: longest) }
    // Where blocks will be needed they are loaded now, with the model's own head: the loss would keep the one that was read
    // alone beside it.
    if let store, !backbone.holdsBlocks, !all.allSatisfy(store.holds) { _ = try backbone.enginePointer() }
    if let note = try trainer.cache?.note(on: backbone) { report(.note(note)) }
    session = try TrainingSession(backbone, configuration, maxTokens: longest, cache: store, ranks: ranks)
    cacheNote = CacheNote(store)
    head = HeadPlan(cached: configuration.head == .cached)
    if configuration.head == .cached {
      try session.cacheHead(encoded)
      // A run that goes on does as it began.
      head.beginsFromReferences = earlier?.beginsFromReferences ?? session.cachedHead?.references.hold(encoded) ?? false
      head.stores = session.cachedHead?.references.stores ?? false
      record?.beginsFromReferences = head.beginsFromReferences
      if !head.isUseful {
        report(
          .cacheStopped(
            "another process is writing to it, and it does not hold these samples' references of the head yet"))
      }
    }

    perEpoch = BatchPlan.batches(of: lengths.count, size: configuration.batchSize)
    total = configuration.totalSteps(examples: lengths.count)
    warmup = Int((configuration.warmup * Float(total)).rounded())
    averagedFrom = total - max(1, Int((configuration.averaging * Float(total)).rounded()))
    let entered = ContinuousClock.now
    if let record {
      state = try Self.begin(record, session, encoded, tuning, resume: resume, total: total, report)
    }
    try session.share(&state)
    session.average?.begin(at: state.step, from: averagedFrom)
    firstStep = state.step
    firstTokens = state.tokens
    start = .now
    // What a side network measures before its first step is time that its training takes.
    firstSeconds = state.seconds ?? (start - entered).seconds
  }

  private static func check(_ trainer: Trainer, _ ranks: Ranks) throws {
    let configuration = trainer.configuration, tuning = configuration.method.tuning
    try configuration.validate()
    if !tuning.keepsActivations, trainer.cache != nil {
      throw LadderError(
        .usage,
        "`cache` keeps what does not change: with `method` \(tuning.name) every block's activations do at every step; with "
          + "`blocks` N, the last N alone, what lies below them does not")
    }
    guard configuration.head == .cached else { return }
    if trainer.cache == nil {
      throw LadderError(.usage, "`head` cached keeps what it needs in the activation cache: pass `cache` too")
    }
    if ranks.count > 1 { throw LadderError(.usage, "`head` cached is for one process; leave it out") }
  }

  /// The state to go on from: the last checkpoint's, or a new run's.
  private static func begin(
    _ record: RunRecord, _ session: TrainingSession, _ samples: [EncodedSample], _ tuning: any FineTuning,
    resume: Bool, total: Int, _ report: (TrainingEvent) -> Void
  ) throws -> RunDirectory.CheckpointState {
    let restored = resume ? try record.restore(session) : nil
    if let restored {
      report(.resumed(step: restored.step))
    } else {
      if let preparation = tuning.preparation { report(.stage(preparation)) }
      do {
        try session.initialise(samples)
      } catch let error as LadderError where error.kind == .interrupted {
        throw LadderError(.interrupted, "interrupted before the first step; start again")
      }
    }
    let state = restored ?? RunDirectory.CheckpointState(step: 0, tokens: 0, metricsBytes: 0)
    try record.begin(state, total: total)
    return state
  }

  // MARK: - Steps

  /// - Returns: the last step.
  func run() throws -> TrainingStep? {
    do {
      try settle()
      while state.step < total {
        try step()
        try settle()
      }
    } catch let error as LadderError where error.kind == .interrupted {
      // The step that was cut short is taken again from its start, and so is a validation.
      guard state.step > 0 else { throw LadderError(.interrupted, "interrupted before the first step; start again") }
      try record?.checkpoint(&state, session)
      try record?.end(state, session, finished: false)
      // What was no wish to stop is told: other processes that are gone.
      let why = error.message.hasPrefix("interrupted") ? "interrupted" : error.message
      throw LadderError(
        .interrupted, "\(why) at step \(state.step) of \(total); the state is saved, go on with `resume`")
    }
    try ranks.together { try record?.end(state, session, finished: true) }
    if let drift = head.drift { report(.headDrift(steps: drift.steps, loss: drift.loss, gradient: drift.gradient)) }
    return last
  }

  private func step() throws {
    let batch = batch(state.step)
    let rate =
      configuration.learningRate * configuration.schedule.factor(step: state.step, warmup: warmup, total: total)
    let samples = batch.map { examples[$0] }, use = head.use(state.step, perEpoch: perEpoch)
    // A validation would have other samples read in between.
    let isRead = state.step + 1 < total && !(held != nil && isValidationStep(state.step + 1))
    let next = isRead && ranks.count > 1 ? self.batch(state.step + 1).map { examples[$0] } : nil
    let take = { [session, state] in
      try session.take(samples, number: state.step, learningRate: rate, head: use, next: next)
    }
    let (result, note) = state.step == firstStep ? try session.watching(take) : (try take(), nil)
    if let note { report(.note(note)) }
    state.step += 1
    if state.step > averagedFrom { try session.average?.add() }
    state.tokens += batch.reduce(0) { $0 + lengths[$1] }

    let seconds = max(1e-9, (ContinuousClock.now - start).seconds)
    state.seconds = firstSeconds + seconds
    let line = TrainingStep(
      step: state.step, totalSteps: total, epoch: Double(state.step) / Double(perEpoch), loss: result.loss,
      learningRate: rate,
      tokens: state.tokens, tokensPerSecond: Double(state.tokens - firstTokens) / seconds,
      peakBytes: backbone.peakBytes,
      gradientNorm: result.gradientNorm,
      secondsLeft: seconds / Double(state.step - firstStep) * Double(total - state.step),
      elapsedSeconds: state.seconds, headDrift: result.drift?.loss.finite,
      headGradientDrift: result.drift?.gradient.finite)
    head.add(result.drift)
    try record?.append(line)
    last = line
    report(.step(line))
    cacheNote.tell(report)
  }

  /// The samples of a step, from 0.
  private func batch(_ step: Int) -> [Int] {
    let epoch = step / perEpoch
    if plan.epoch != epoch {
      let batches = BatchPlan(
        lengths: lengths, batchSize: configuration.batchSize, seed: configuration.seed, epoch: epoch)
      plan = (epoch, batches.batches)
    }
    return plan.batches[step % perEpoch]
  }

  /// What is due once a step was taken, unless it is done: the checkpoint first, so that a process that is killed while
  /// it validates loses nothing.
  private func settle() throws {
    guard state.step > 0 else { return }
    let validates = held != nil && isValidationStep(state.step) && state.validated != state.step
    if state.step > firstStep,
      state.step % configuration.checkpointEvery == 0 || state.step == total
        || (validates && state.step % perEpoch == 0)
    {
      try record?.checkpoint(&state, session)
      report(.checkpoint(step: state.step))
    }
    guard validates, let held else { return }
    report(.stage("validating on \(held.count) samples"))
    let start = ContinuousClock.now, loss = try session.meanLoss(held)
    let seconds = (ContinuousClock.now - start).seconds, isBest = loss < (state.bestLoss ?? .infinity)
    guard loss.isFinite else {
      state.validated = state.step
      try record?.validated(&state, loss: nil, seconds: seconds)
      return report(
        .note(
          "the validation loss at step \(state.step) is not finite: the model gives no numbers for one of these samples; "
            + "leave it out"))
    }
    if isBest {
      state.bestLoss = loss
      state.bestStep = state.step
      try record?.keep(session)
    }
    state.validated = state.step
    try record?.validated(&state, loss: loss, seconds: seconds)
    report(.validation(step: state.step, loss: loss, isBest: isBest))
  }

  private func isValidationStep(_ step: Int) -> Bool {
    let every = configuration.validateEvery
    return step == total || (every > 0 ? step % every == 0 : step % perEpoch == 0)
  }
}

extension FloatingPoint {
  fileprivate var finite: Self? { isFinite ? self : nil }
}
