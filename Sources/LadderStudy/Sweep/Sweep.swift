import Foundation
import LadderCore
import LadderEval
import LadderTrain

/// Searches for a recipe by successive halving: many candidates on a part of a run each, the best third of them on three
/// times as much, and so on (Jamieson and Talwalkar 2016). After the recipes that the space starts with, half of the
/// candidates are drawn, half change one of the best so far. The defaults go through every stage beside them.
///
/// It goes by time: each stage has its part of the budget, and takes as many candidates as fit.
public struct Sweep: Sendable {
  public struct Settings: Codable, Sendable, Equatable {
    /// Seconds, for all there is but the last run.
    public var budget = 600.0
    /// What every candidate is trained with; options that are given here are not searched.
    public var base = TrainingOptions()
    /// What decides: `auto` is the loss among the choices where there are some, else the metric that suits the samples,
    /// the loss for texts with answers.
    public var metric = Metric.auto
    public var space: SearchSpace

    public init(space: SearchSpace) { self.space = space }
  }

  /// A candidate that was trained and judged.
  public struct Trial: Codable, Sendable, Equatable {
    /// In the order of their running, from 0.
    public var number: Int
    /// From 0.
    public var stage: Int
    public var choices: SearchSpace.Choices
    /// Of a whole run.
    public var share: Double
    /// What its stage meant to train of one; nil in sweeps of before.
    public var meant: Double?
    /// Lower is better; nil where it failed.
    public var score: Double?
    public var evaluation: Evaluation?
    /// Of its training and judging.
    public var seconds: Double
    /// Why it has no score.
    public var failure: String?
  }

  /// What is told on the way.
  public enum Event: Sendable {
    case stage(String)
    case trial(Trial, [Trial])
  }

  /// Parts of a run that the stages train, at least, where a whole run is short; more where there is time.
  static let shares = [1.0 / 9, 1.0 / 3, 1]
  /// Their parts of the time.
  static let times = [0.4, 0.3, 0.3]
  /// Steps that say something.
  static let leastSteps = 24

  let settings: Settings
  let folder: SweepFolder
  let training: any CandidateTraining

  init(_ settings: Settings, _ folder: SweepFolder, _ training: any CandidateTraining) {
    self.settings = settings
    self.folder = folder
    self.training = training
  }

  /// Runs what is not done yet.
  /// - Returns: all trials; at least one has a score.
  func run(report: (Event) -> Void) throws -> [Trial] {
    var trials = try folder.trials(), spent = trials.reduce(0) { $0 + $1.seconds }
    let budget = settings.budget
    func add(_ stage: Int, _ choices: SearchSpace.Choices, _ share: Double) throws {
      try Cancellation.check()
      let trial = try self.trial(trials.count, stage, choices, share, trials)
      trials.append(trial)
      spent += trial.seconds
      try folder.write(trials)
      report(.trial(trial, trials))
    }
    var due = 0.0
    for stage in Self.shares.indices {
      due += Self.times[stage] * budget
      if stage == 0 {
        while true {
          let known = trials.filter { $0.stage == 0 }
          // A few candidates always, so that there is something to choose among.
          if known.count >= 3, spent + Self.mean(known) > due { break }
          if trials.contains(where: { $0.stage > 0 }) { break }
          // What none of the first could do, none of the next will.
          if known.count >= 3, !known.contains(where: { $0.score != nil }) { break }
          guard let next = candidate(known) else { break }
          try add(0, next, firstShare(known))
        }
        continue
      }
      let before = Self.ranked(trials, stage: stage - 1)
      guard !before.isEmpty else { break }
      // A third of them; more where there is time for more whole runs.
      var next = before.prefix(max(1, (before.count + 2) / 3)).map(\.choices)
      for more in before.dropFirst(next.count) where spent + cost([[:], more.choices] + next, trials) < due {
        next.append(more.choices)
      }
      if !next.contains([:]) { next.append([:]) }
      // As much of a run as there is time for.
      let known = trials.filter { $0.stage == stage },
        share =
          known.first.map { $0.meant ?? $0.share }
          ?? min(
            1,
            max(Self.shares[stage] * firstShare(trials) / Self.shares[0], (due - spent) / max(1e-9, cost(next, trials)))
          )
      // The defaults come second: whatever the time, they and the best are compared.
      if let place = next.firstIndex(of: [:]), place > 1 {
        next.remove(at: place)
        next.insert([:], at: 1)
      }
      for (rank, choices) in next.enumerated() {
        let done = trials.filter { $0.stage == stage }
        if done.contains(where: { $0.choices == choices }) { continue }
        if rank > 1, spent + cost([choices], trials) * share > due { break }
        try add(stage, choices, share)
      }
    }
    guard trials.contains(where: { $0.score != nil }) else {
      throw LadderError(.data, "no candidate could be trained: \(trials.first?.failure ?? "the space is empty")")
    }
    return trials
  }

  /// The best, the first stage aside where others are there: what learned too long is no better for having gone further.
  static func best(_ trials: [Trial]) -> Trial? {
    let scored = trials.filter { $0.score != nil }, later = scored.filter { $0.stage > 0 }
    return (later.isEmpty ? scored : later).min { ($0.score ?? 0, -$0.share) < ($1.score ?? 0, -$1.share) }
  }

  /// The options of the last run: a whole one, but where the same candidate did worse with more training: then one as
  /// long as this trial's was.
  static func options(_ trial: Trial, among trials: [Trial], _ settings: Settings) throws -> TrainingOptions {
    var options = try settings.space.options(trial.choices).over(settings.base)
    guard trials.contains(where: { $0.choices == trial.choices && $0.share > trial.share && $0.score != nil }) else {
      return options
    }
    if let steps = options.steps { options.steps = max(1, Int((Double(steps) * trial.share).rounded())) }
    let epochs = (options.epochs ?? TrainingConfiguration().epochs) * trial.share
    if options.steps == nil { options.epochs = max(0.001, (epochs * 1000).rounded() / 1000) }
    return options
  }

  /// A stage's trials that have a score, the best first.
  static func ranked(_ trials: [Trial], stage: Int) -> [Trial] {
    trials.filter { $0.stage == stage && $0.score != nil }.sorted {
      ($0.score ?? 0, $0.number) < ($1.score ?? 0, $1.number)
    }
  }

  private static func mean(_ trials: [Trial]) -> Double {
    trials.isEmpty ? 0 : trials.reduce(0) { $0 + $1.seconds } / Double(trials.count)
  }

  /// The next of the first stage: the defaults, the recipes to start with, then by turns a drawn one and a change of one
  /// of the three best.
  private func candidate(_ known: [Trial]) -> SearchSpace.Choices? {
    if let next = ([[:]] + settings.space.starts).first(where: { start in !known.contains { $0.choices == start } }) {
      return next
    }
    var random = SeededRandom(seed: settings.base.seed ?? 0, 10, known.count)
    let parents = Self.ranked(known, stage: 0).prefix(3)
    let parent = known.count % 2 == 0 && known.count >= 4 ? parents.randomElement(using: &random)?.choices : nil
    return settings.space.candidate(changing: parent, not: Set(known.map(\.choices)), using: &random)
  }

  /// What the first stage trains of a run: less than a ninth where a whole run takes more than a sixth of the budget.
  private func firstShare(_ trials: [Trial]) -> Double {
    let whole = trials.filter { $0.seconds > 0 }.map { $0.seconds / $0.share }.sorted()
    guard !whole.isEmpty else { return Self.shares[0] }
    return Self.shares[0] * min(1, settings.budget / 6 / whole[whole.count / 2])
  }

  /// Seconds of whole runs of these, by the last that each took of one.
  private func cost(_ candidates: [SearchSpace.Choices], _ trials: [Trial]) -> Double {
    candidates.reduce(0) { sum, choices in
      let last = trials.last { $0.choices == choices && $0.seconds > 0 }
      return sum + (last.map { $0.seconds / $0.share } ?? 0)
    }
  }

  private func trial(
    _ number: Int, _ stage: Int, _ choices: SearchSpace.Choices, _ share: Double, _ earlier: [Trial]
  ) throws -> Trial {
    let began = ContinuousClock.now
    var trial = Trial(number: number, stage: stage, choices: choices, share: 1, meant: share, seconds: 0)
    do {
      var options = try settings.space.options(choices).over(settings.base)
      let steps = try training.steps(options)
      trial.share = min(1, max(share, Double(Self.leastSteps) / Double(max(1, steps))))
      // A short run was trained whole in an earlier stage.
      if var done = earlier.last(where: { $0.choices == choices && $0.share >= trial.share }) {
        (done.number, done.stage, done.meant, done.seconds) = (number, stage, share, 0)
        return done
      }
      if trial.share < 1 { options.steps = max(1, Int((trial.share * Double(steps)).rounded())) }
      let evaluation = try training.train(options, into: folder.run(number))
      trial.evaluation = evaluation
      trial.score = Self.score(evaluation, settings.metric)
    } catch let error as LadderError where error.kind == .data || error.kind == .usage {
      // What cannot be trained so, or diverges, is out; everything else ends the sweep.
      trial.failure = error.message
    }
    folder.discard(number)
    trial.seconds = (ContinuousClock.now - began).seconds
    return trial
  }

  /// Lower is better.
  static func score(_ evaluation: Evaluation, _ metric: Metric) -> Double? {
    let value =
      switch metric {
      case .auto: evaluation.choiceLoss ?? (evaluation.metric == .preference ? -evaluation.value : evaluation.loss)
      case .loss: evaluation.loss
      case .choice, .matthews, .macroF1, .preference, .exact: -evaluation.value
      }
    return value.isFinite ? value : nil
  }
}

/// Trains and judges a sweep's candidates.
protocol CandidateTraining: Sendable {
  /// Steps of a whole run.
  /// - Throws: `usage` for options that cannot be run.
  func steps(_ options: TrainingOptions) throws -> Int
  /// Goes on with what the folder holds.
  func train(_ options: TrainingOptions, into folder: String) throws -> Evaluation
}
