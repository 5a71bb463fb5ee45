import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderInference
import LadderMethods
import LadderTrain

/// How an evaluation reads its samples.
public struct EvaluationOptions: Sendable {
  /// What is measured.
  public var metric: Metric = .auto
  /// Tokens of the longest sample.
  public var maxLength = 2048
  /// What becomes of a longer sample.
  public var overlong: Overlong = .trim
  /// Tokens that go through the model at once.
  public var microBatchTokens = 2048
  /// Generated tokens at most, for exact match.
  public var maxTokens = 256
  /// Texts that are generated at a time, for exact match.
  public var parallelTexts = 8
  /// The loss of pairs, for `preference`.
  public var preference = PreferenceSettings()
  /// Where the backbone's activations are kept for later evaluations; nil keeps none.
  public var cache: CacheOptions?

  public init() {}
}

extension LadderModel {
  /// Evaluates samples.
  /// - Parameters:
  ///   - name: stands for the samples in results and errors.
  ///   - report: called with samples done and samples in all.
  public func evaluate(
    _ samples: [Sample], name: String = "samples", options: EvaluationOptions = EvaluationOptions(),
    report: (Int, Int) -> Void = { _, _ in }
  ) throws(LadderError) -> Evaluation {
    try LadderError.unify { try measure(samples, name, options, report) }
  }

  private func measure(
    _ samples: [Sample], _ name: String, _ options: EvaluationOptions, _ report: (Int, Int) -> Void
  ) throws -> Evaluation {
    if samples.isEmpty { throw LadderError(.data, "\(name): there are no samples") }
    for (name, value) in [
      ("maxLength", options.maxLength), ("maxTokens", options.maxTokens),
      ("microBatchTokens", options.microBatchTokens),
    ] where !(1...1 << 24).contains(value) {
      throw LadderError(.usage, "`\(name)` must be 1 to \(1 << 24)")
    }
    let encoder = SampleEncoder(
      language, maxLength: options.maxLength, overlong: options.overlong, earlierTurns: chat?.earlierTurns ?? .separate)
    var result =
      switch options.metric == .auto ? Self.metric(for: samples) : options.metric {
      case .preference: try evaluatePairs(samples, name, encoder, options, report)
      case .choice, .matthews, .macroF1: try evaluateChoices(samples, name, encoder, options, report)
      case .exact: try evaluateExact(samples, name, encoder, options, report)
      case .loss, .auto: try evaluateLoss(samples, name, encoder, options, report)
      }
    if let unread = samples.unreadKeys { result.notes.append(unread) }
    return result
  }

  /// What `auto` is for these samples.
  package static func metric(for samples: [Sample]) -> Metric {
    func isPair(_ sample: Sample) -> Bool { if case .preference = sample.form { true } else { false } }
    if samples.allSatisfy(isPair) { return .preference }
    if samples.allSatisfy({ !$0.choices.isEmpty }) { return .choice }
    return samples.allSatisfy { $0.answer != nil } ? .exact : .loss
  }

  // MARK: - Metrics

  private func evaluateLoss(
    _ samples: [Sample], _ name: String, _ encoder: SampleEncoder, _ options: EvaluationOptions,
    _ report: (Int, Int) -> Void
  ) throws -> Evaluation {
    let (encoded, count) = try encoder.encode(samples, name: name)
    let began = ContinuousClock.now
    let all = try losses(encoded, options, report), losses = all.filter { $0.allSatisfy(\.isFinite) }
    guard !losses.isEmpty else { throw LadderError(.data, "\(name): no sample's likelihood is a finite number") }
    let rows = losses.reduce(0) { $0 + $1.count }, sum = losses.joined().reduce(0.0) { $0 + Double($1) }
    let loss = sum / Double(max(1, rows)), tokens = encoded.reduce(0) { $0 + $1.tokens.count }
    var result = Evaluation(
      task: name, metric: .loss, value: loss, examples: losses.count, loss: loss,
      tokensPerSecond: Double(tokens) / (ContinuousClock.now - began).seconds, trimmed: count.trimmed,
      dropped: count.dropped)
    result.leaveOut(count.dropped, .tooLong)
    result.leaveOut(count.idle, .nothingLearned)
    result.leaveOut(all.count - losses.count, .notFinite)
    result.notes = count.notes
    return result
  }

  private func evaluateExact(
    _ samples: [Sample], _ name: String, _ encoder: SampleEncoder, _ options: EvaluationOptions,
    _ report: (Int, Int) -> Void
  ) throws -> Evaluation {
    guard samples.allSatisfy({ $0.answer != nil }) else {
      throw LadderError(.data, "\(name): `metric` exact needs an \"answer\" in every sample")
    }
    let asked = try samples.enumerated().compactMap { place, sample in
      try encoder.prompt(sample).map { (place: place, sample: sample, prompt: $0) }
    }
    let prompts = asked.map(\.prompt), answers = asked.map { $0.sample.answer ?? "" }
    guard !prompts.isEmpty else {
      throw LadderError(.data, "\(name): no prompt fits `maxLength` \(options.maxLength); raise it")
    }
    let isChat = asked.map(\.sample).map { sample in
      switch sample.form {
      case .conversation, .reply: true
      case .completion, .text, .preference: false
      }
    }
    let end = isChat.contains(true) ? AnswerEnd(templateOf: language) : AnswerEnd()
    var evaluation = try evaluateLoss(samples, name, encoder, options) { _, _ in }
    let texts = backbone.takesOneSequence ? 1 : max(1, min(options.parallelTexts, prompts.count))
    var right = 0, tokens = 0, finished = 0
    var predictions = samples.map { _ in Evaluation.Prediction.none(.tooLong) }
    let began = ContinuousClock.now
    try generate(
      prompts, texts: texts, maxTokens: options.maxTokens,
      ends: isChat.map { $0 ? end : AnswerEnd() }
    ) { index, result in
      let isRight = FinalAnswer.matches(result.text, answers[index])
      predictions[asked[index].place] = .init(text: result.text, tokens: result.tokens, isRight: isRight)
      if isRight { right += 1 }
      tokens += result.promptTokens + result.tokens
      finished += 1
      report(finished, prompts.count)
    }
    evaluation.predictions = predictions
    evaluation.metric = .exact
    evaluation.value = Double(right) / Double(prompts.count)
    evaluation.accuracy = evaluation.value
    evaluation.unjudged = [:]
    evaluation.leaveOut(samples.count - prompts.count, .tooLong)
    evaluation.examples = prompts.count
    evaluation.tokensPerSecond = Double(tokens) / (ContinuousClock.now - began).seconds
    return evaluation
  }

  /// The losses of each sample's rows.
  package func losses(
    _ samples: [EncodedSample], _ options: EvaluationOptions, _ report: (Int, Int) -> Void = { _, _ in }
  ) throws -> [[Float]] {
    try score(samples, options, wanted: samples.map { $0.targets.map { [$0] } }, report).map { rows in
      rows.map { -$0[0] }
    }
  }

  func score(
    _ samples: [EncodedSample], _ options: EvaluationOptions, wanted: [[[Int32]]],
    _ report: (Int, Int) -> Void
  ) throws -> [[[Float]]] {
    try score(samples.map(\.packed), options, wanted: wanted, of: predictor, report).own
  }

  /// ln p of the entries that are asked for, of each sample's rows.
  /// - Returns: by the predictor; and by the model alone, where the predictor reads that too and `alone` asks for it.
  func score(
    _ samples: [PackedSample], _ options: EvaluationOptions, wanted: [[[Int32]]], of predictor: any Predictor,
    alone: Bool = false, _ report: (Int, Int) -> Void
  ) throws -> (own: [[[Float]]], alone: [[[Float]]]) {
    let lengths = samples.map(\.tokens.count)
    let longest = lengths.max() ?? 1, needs = TapNeeds(rungs: predictor.rungs)
    let store = predictor.keepsActivations ? try options.cache?.open(backbone, needs, longest: longest) : nil
    let reader = try predictor.reader(maxTokens: longest, cache: store), loss = try CrossEntropy(backbone)
    var own = [[[Float]]](repeating: [], count: samples.count), base = own
    var done = 0
    // Results go back to their places.
    for micro in BatchPlan.byLength(lengths, tokens: options.microBatchTokens) {
      try Cancellation.check()
      let owners = micro.flatMap { index in samples[index].lossRows.map { _ in index } }
      let entries = micro.flatMap { wanted[$0] }
      func take(_ rows: Tensor, into results: inout [[[Float]]]) throws {
        for (owner, values) in zip(owners, try loss.logProbabilities(rows, of: entries)) {
          results[owner].append(values)
        }
      }
      let rows = try reader.rows(micro.map { samples[$0] }) { if alone { try take($0, into: &base) } }
      try take(rows, into: &own)
      done += micro.count
      report(done, samples.count)
    }
    return (own, base)
  }
}
