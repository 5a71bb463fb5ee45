import Foundation
import LadderCompute
import LadderCore
import LadderData
import LadderMethods

/// How the head's loss and gradient are worked.
public enum HeadMode: String, Codable, Sendable, CaseIterable {
  /// Over the whole vocabulary, in every step.
  case exact
  /// Over the whole vocabulary once for each sample; from then on, with an activation cache, over each row's likeliest
  /// entries, the data's most frequent tokens and one entry that stands for the rest.
  case cached
}

/// Everything that decides what a run's weights become, given the backbone and the samples.
public struct TrainingConfiguration: Codable, Sendable, Equatable {
  /// What is trained.
  public var method = TuningMethod.ladder(SideConfiguration())
  /// Passes over the samples, where `steps` is nil.
  public var epochs: Double = 1
  /// Optimiser steps; overrides `epochs`.
  public var steps: Int? = nil
  /// Tokens of the longest sample.
  public var maxLength = 1024
  /// What becomes of a longer sample.
  public var overlong: Overlong = .trim
  /// What samples with choices are trained on; nil is `tokens`.
  public var objective: Objective? = nil
  /// How preferences are learned, with that objective; nil takes the defaults.
  public var preference: PreferenceSettings? = nil
  /// How conversations are rendered; nil is by the model's own template.
  public var chat: ChatSettings? = nil
  /// Samples of one optimiser step.
  public var batchSize = 16
  /// Tokens that go through the side network at once; a batch of more is accumulated.
  public var microBatchTokens = 2048
  /// The highest of the schedule.
  public var learningRate: Float = 3e-4
  /// How the learning rate falls.
  public var schedule: Schedule = .cosine
  /// The share of the steps over which the learning rate rises.
  public var warmup: Float = 0.05
  /// AdamW's, decoupled, on matrices alone.
  public var weightDecay: Float = 0.01
  /// The largest norm of a gradient; 0 never clips.
  public var clip: Float = 1
  /// The share of the run, at its end, over whose steps the weights are averaged; 0 takes the last step's.
  public var averaging: Float = 0
  /// A run's folder whose weights this one starts from; its side network has the same shape.
  public var warmStart: String? = nil
  /// Keep the optimiser's moments in 8 bits.
  public var eightBitOptimiser = false
  /// Draw among the vocabulary's many small entries in the head's gradient (see `RowSurvey`); false works each of them.
  public var filtersGradient = true
  /// How the head's loss is worked; nil is `exact`.
  public var head: HeadMode? = nil
  /// How gradients travel where several processes train; nil is `float32`.
  public var gradientFormat: GradientFormat? = nil
  /// Of initialisation, order and dropout.
  public var seed: UInt64 = 0
  /// Steps between checkpoints.
  public var checkpointEvery = 100
  /// Steps between validations; 0 validates at each epoch's end.
  public var validateEvery = 0

  public init() {}

  /// - Throws: `usage` for the first setting that is out of range.
  package func validate() throws {
    func require(_ condition: Bool, _ message: String) throws { if !condition { throw LadderError(.usage, message) } }
    // What no machine could hold or finish is a slip of the pen, and would leave the range of whole numbers.
    let most = 1 << 30
    try require(epochs > 0 && epochs <= 1e6, "`epochs` must be above 0, and at most a million")
    try require((1...most).contains(steps ?? 1), "`steps` must be 1 to \(most)")
    try require((2...most).contains(maxLength), "`maxLength` must be 2 to \(most)")
    try require((1...most).contains(batchSize), "`batchSize` must be 1 to \(most)")
    try require((1...most).contains(microBatchTokens), "`microBatchTokens` must be 1 to \(most)")
    try require(learningRate > 0 && learningRate.isFinite, "`learningRate` must be above 0")
    try require((0..<1).contains(warmup), "`warmup` is a share of the run, from 0 up to 1")
    try require((0...1).contains(averaging), "`averaging` is a share of the run, from 0 to 1")
    try require(weightDecay >= 0 && clip >= 0, "`weightDecay` and `clip` cannot be negative")
    try method.tuning.validate()
    try preference?.validate()
    try require(
      head != .cached || filtersGradient,
      "`head` cached takes each row over a part of the vocabulary: leave `filtersGradient` out")
    try require(head != .cached || objective != .preference, "`head` cached is not for `objective` preference")
    try require(
      head != .cached || method.tuning.keepsActivations,
      "`head` cached needs activations that stay: with `method` \(method.name) on every block no row is the same again")
    try require(
      (1...most).contains(checkpointEvery) && (0...most).contains(validateEvery),
      "`checkpointEvery` must be 1 or more, `validateEvery` 0 or more")
  }

  /// Optimiser steps of a run over so many examples.
  package func totalSteps(examples: Int) -> Int {
    let exact = epochs * Double(BatchPlan.batches(of: examples, size: batchSize))
    // A product of decimals may lie a rounding above a whole number.
    return steps ?? max(1, Int((exact * (1 - 1e-12)).rounded(.up)))
  }

  /// Reads samples as the settings say.
  /// - Parameter other: an objective in place of the settings' own.
  package func encoder(_ tokenizer: any Tokenizing, objective other: Objective? = nil) -> SampleEncoder {
    SampleEncoder(
      tokenizer, maxLength: maxLength, overlong: overlong, objective: other ?? objective ?? .tokens,
      earlierTurns: chat?.earlierTurns ?? .separate)
  }

  /// What differs from `other` and would change the weights that a resumed run ends with: `learningRate`, `side.rungs`.
  package func differences(from other: TrainingConfiguration) -> [String] {
    let mine = flattened(), theirs = other.flattened()
    let without = ["checkpointEvery", "method.lora.baseModel"]
    return Set(mine.keys).union(theirs.keys).filter { !without.contains($0) && mine[$0] != theirs[$0] }.sorted()
  }

  /// What differs from `other` and would give the same weights another meaning. Where shapes differ, restoring tells.
  func meaningDifferences(from other: TrainingConfiguration) -> [String] {
    let without: Set = [
      "rungs", "reduction", "initialisation", "tapDropout", "statisticsRows", "precision", "dropout", "checkpointing",
      "rounds", "baseModel",
    ]
    var own = self, others = other
    (own.method, others.method) = (own.method.spelledOut, others.method.spelledOut)
    return own.differences(from: others).filter {
      let parts = $0.split(separator: ".").map(String.init)
      return parts[0] == "method" && without.isDisjoint(with: parts)
    }
  }

  /// Every setting as text, by its path.
  private func flattened() -> [String: String] {
    var result: [String: String] = [:]
    func visit(_ value: Any, _ path: String) {
      guard let object = value as? [String: Any], !object.isEmpty else {
        result[path] = "\(value)"
        return
      }
      for (key, part) in object { visit(part, path.isEmpty ? key : "\(path).\(key)") }
    }
    if let data = try? JSONEncoder().encode(self), let object = try? JSONSerialization.jsonObject(with: data) {
      visit(object, "")
    }
    return result
  }
}
