import LadderCore
import LadderData
import LadderInference
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
    let packed = examples.flatMap(\.packed), total = examples.count
    // The rows of a packed sample are those of its texts, one after another.
    var targets = sequences.flatMap(\.targets)[...]
    let wanted = packed.map { sample in
      defer { targets = targets.dropFirst(sample.lossRows.count) }
      return targets.prefix(sample.lossRows.count).map { [$0] }
    }
    func logLikelihoods(_ scores: [[[Float]]]) -> [Double] {
      var rows = scores.joined().map { Double($0[0]) }[...]
      return sequences.map { sequence in
        defer { rows = rows.dropFirst(sequence.targets.count) }
        return rows.prefix(sequence.targets.count).reduce(0, +)
      }
    }
    let passes = predictor.alone == .apart ? 2 : 1
    let scores = try score(packed, options, wanted: wanted, of: predictor, alone: predictor.alone == .beside) {
      done, all in
      report(done * total / all / passes, total)
    }
    let own = logLikelihoods(scores.own)
    let base =
      switch predictor.alone {
      case .same: own
      case .beside: logLikelihoods(scores.alone)
      case .apart:
        logLikelihoods(
          try score(packed, options, wanted: wanted, of: BackbonePredictor(backbone)) { done, all in
            report((all + done) * total / all / 2, total)
          }.own)
      }
    let finite = examples.indices.filter { i in
      (own[(2 * i)...(2 * i + 1)] + base[(2 * i)...(2 * i + 1)]).allSatisfy(\.isFinite)
    }
    guard !finite.isEmpty else { throw LadderError(.data, "\(name): no likelihood of any pair is a finite number") }
    let pairs = finite.map { i in
      PreferencePair(
        chosen: own[2 * i], rejected: own[2 * i + 1],
        chosenReference: options.preference.hasReference ? base[2 * i] : 0,
        rejectedReference: options.preference.hasReference ? base[2 * i + 1] : 0,
        chosenTokens: sequences[2 * i].targets.count,
        rejectedTokens: sequences[2 * i + 1].targets.count)
    }
    let gains = finite.map { (own[2 * $0] - base[2 * $0]) - (own[2 * $0 + 1] - base[2 * $0 + 1]) }
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(max(1, values.count)) }
    let tokens = examples.reduce(0) { $0 + $1.tokens }
    var result = Evaluation(
      task: name, metric: .preference, value: mean(pairs.map { $0.chosen > $0.rejected ? 1 : 0 }),
      examples: finite.count,
      loss: mean(pairs.map { $0.evaluate(options.preference).loss }),
      tokensPerSecond: Double(tokens) / (ContinuousClock.now - began).seconds,
      trimmed: count.trimmed, dropped: count.dropped)
    result.leaveOut(samples.count - total, .tooLong)
    result.leaveOut(total - finite.count, .notFinite)
    result.notes = count.notes
    result.margin = mean(gains)
    result.rewardAccuracy = mean(gains.map { $0 > 0 ? 1 : 0 })
    return result
  }
}
