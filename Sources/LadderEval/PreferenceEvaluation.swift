import LadderCore
import LadderData
import LadderMethods
import LadderTrain

extension LadderModel {
  /// Pairs ranked right, their margin over the model alone, and the loss.
  func evaluatePairs(
    _ samples: [Sample], _ name: String, _ encoder: SampleEncoder, _ options: EvaluationOptions,
    _ report: (Int, Int) -> Void
  ) throws -> Evaluation {
    let (examples, count) = try encoder.pairs(samples, name: name)
    let sequences = examples.flatMap(\.sequences), began = ContinuousClock.now
    func logLikelihoods(_ losses: [[Float]]) -> [Double] { losses.map { -$0.reduce(0.0) { $0 + Double($1) } } }
    let isAlone = predictor is BackbonePredictor && predictor.keepsActivations
    let passes = isAlone ? 1 : 2, total = examples.count
    let own = logLikelihoods(try losses(sequences, options) { done, all in report(done * total / all / passes, total) })
    // Of the model alone.
    let base =
      isAlone
      ? own
      : logLikelihoods(
        try losses(sequences, options, of: BackbonePredictor(backbone)) { done, all in
          report((all + done) * total / all / 2, total)
        })
    let pairs = examples.indices.map { i in
      PreferencePair(
        chosen: own[2 * i], rejected: own[2 * i + 1],
        chosenReference: options.preference.hasReference ? base[2 * i] : 0,
        rejectedReference: options.preference.hasReference ? base[2 * i + 1] : 0,
        chosenTokens: sequences[2 * i].targets.count,
        rejectedTokens: sequences[2 * i + 1].targets.count)
    }
    let gains = examples.indices.map { (own[2 * $0] - base[2 * $0]) - (own[2 * $0 + 1] - base[2 * $0 + 1]) }
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(max(1, values.count)) }
    let tokens = sequences.reduce(0) { $0 + $1.tokens.count }
    var result = Evaluation(
      task: name, metric: .preference, value: mean(pairs.map { $0.chosen > $0.rejected ? 1 : 0 }), examples: total,
      loss: mean(pairs.map { $0.evaluate(options.preference).loss }),
      tokensPerSecond: Double(tokens) / (ContinuousClock.now - began).seconds,
      trimmed: count.trimmed, dropped: count.dropped)
    result.margin = mean(gains)
    result.rewardAccuracy = mean(gains.map { $0 > 0 ? 1 : 0 })
    return result
  }
}
