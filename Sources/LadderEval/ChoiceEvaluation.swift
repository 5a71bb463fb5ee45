import Foundation
import LadderCore
import LadderData
import LadderInference

extension LadderModel {
  /// The likeliest of each sample's choices.
  func evaluateChoices(
    _ samples: [Sample], _ name: String, _ encoder: SampleEncoder, _ options: EvaluationOptions,
    _ report: (Int, Int) -> Void
  ) throws -> Evaluation {
    let metric = options.metric == .auto ? Metric.choice : options.metric
    guard samples.allSatisfy({ !$0.choices.isEmpty }) else {
      throw LadderError(.data, "\(name): `metric` \(metric.rawValue) needs \"choices\" in every sample")
    }
    let labels = try labels(samples, name, metric)
    var count = SampleEncoder.Count(), unjudged: [Unjudged: Int] = [:]
    var questions: [Question] = [], predictions = samples.map { _ in Evaluation.Prediction.none(.tooLong) }
    for (place, sample) in samples.enumerated() {
      guard case .completion(_, let completion) = sample.form, let gold = sample.choices.firstIndex(of: completion)
      else {
        unjudged[.notAmongChoices, default: 0] += 1
        predictions[place] = .none(.notAmongChoices)
        continue
      }
      if let choices = encoder.encodeChoices(sample, &count) {
        questions.append(Question(place: place, choices: choices, gold: gold, names: sample.choices))
      } else {
        unjudged[.tooLong, default: 0] += 1
      }
    }
    guard !questions.isEmpty else {
      throw LadderError(
        .data,
        unjudged[.tooLong] == nil
          ? "\(name): no sample's completion is among its \"choices\""
          : "\(name): no sample fits `maxLength` \(options.maxLength); raise it")
    }
    let began = ContinuousClock.now
    // Choices of one token each share a single run of their prompt; others are scored whole, one by one.
    let isShared = questions.map { question in
      question.choices.allSatisfy { $0.tokens == question.choices[0].tokens && $0.targets.count == 1 }
    }
    let shared = questions.indices.filter { isShared[$0] }, separate = questions.indices.filter { !isShared[$0] }
    var scores = questions.map { [Double](repeating: 0, count: $0.choices.count) }
    var tokens = 0
    let total = questions.count

    let prompts = shared.map { questions[$0].choices[questions[$0].gold] }
    let answers = shared.map { [questions[$0].choices.map { $0.targets[0] }] }
    for (question, rows) in zip(
      shared, try score(prompts, options, wanted: answers) { done, _ in report(done, total) })
    {
      scores[question] = rows[0].map(Double.init)
    }
    tokens += prompts.reduce(0) { $0 + $1.tokens.count }
    let flat = separate.flatMap { question in questions[question].choices.indices.map { (question, $0) } }
    let sequences = flat.map { questions[$0.0].choices[$0.1] }
    let losses =
      sequences.isEmpty
      ? [] : try losses(sequences, options) { done, all in report(shared.count + done * separate.count / all, total) }
    for (place, rows) in zip(flat, losses) { scores[place.0][place.1] = -rows.reduce(0.0) { $0 + Double($1) } }
    tokens += sequences.reduce(0) { $0 + $1.tokens.count }

    var result = Evaluation(
      task: name, metric: metric, value: 0, examples: 0, loss: 0,
      tokensPerSecond: Double(tokens) / (ContinuousClock.now - began).seconds, trimmed: count.trimmed,
      dropped: count.dropped)
    result.notes = count.notes
    for (reason, count) in unjudged { result.leaveOut(count, reason) }
    result.predictions = predictions
    try judge(questions, scores, labels, &result)
    return result
  }

  /// One sample's choices.
  private struct Question {
    /// Which of the samples.
    var place: Int
    var choices: [EncodedSample]
    var gold: Int
    var names: [String]
  }

  /// The number of each choice's text, where all samples have the same choices.
  /// - Throws: `data` where they do not, and the metric wants it.
  private func labels(_ samples: [Sample], _ name: String, _ metric: Metric) throws -> [String: Int]? {
    let all = Set(samples[0].choices)
    if samples.allSatisfy({ Set($0.choices) == all }) {
      return Dictionary(uniqueKeysWithValues: all.sorted().enumerated().map { ($1, $0) })
    }
    guard metric == .choice else {
      throw LadderError(.data, "\(name): `metric` \(metric.rawValue) needs the same \"choices\" in every sample")
    }
    return nil
  }

  /// Takes the likeliest choices into the result.
  private func judge(
    _ questions: [Question], _ scores: [[Double]], _ labels: [String: Int]?, _ result: inout Evaluation
  ) throws {
    var right = 0, nats = 0.0, among = 0.0, rows = 0
    var table = Classification(labels: labels?.count ?? 0)
    for (question, own) in zip(questions, scores) {
      let most = own.max() ?? 0, best = own.firstIndex(of: most) ?? 0
      // A choice that is there twice may differ from itself in the last bit.
      let isClear =
        own.allSatisfy(\.isFinite) && own.count { $0 == most } == 1
        && question.names.count { $0 == question.names[best] } == 1
      let isRight = isClear && best == question.gold
      guard isClear else {
        let reason = own.allSatisfy(\.isFinite) ? Unjudged.equallyLikely : .notFinite
        result.leaveOut(1, reason)
        result.predictions[question.place] = .none(reason)
        continue
      }
      result.predictions[question.place] = .init(text: question.names[best], tokens: 0, isRight: isRight)
      result.examples += 1
      if isRight { right += 1 }
      if let labels, let gold = labels[question.names[question.gold]], let judged = labels[question.names[best]] {
        table.add(gold, judged: judged)
      }
      nats -= own[question.gold]
      among += log(own.reduce(0.0) { $0 + exp($1 - most) }) + most - own[question.gold]
      rows += question.choices[question.gold].targets.count
    }
    guard result.examples > 0 else {
      throw LadderError(.data, "\(result.task): \(result.unjudgedText ?? "no sample could be judged")")
    }
    let accuracy = Double(right) / Double(result.examples)
    result.accuracy = accuracy
    if labels != nil { (result.matthews, result.macroF1) = (table.matthews, table.macroF1) }
    switch result.metric {
    case .matthews: result.value = table.matthews
    case .macroF1: result.value = table.macroF1
    default: result.value = accuracy
    }
    result.loss = nats / Double(max(1, rows))
    result.choiceLoss = among / Double(result.examples)
  }
}
