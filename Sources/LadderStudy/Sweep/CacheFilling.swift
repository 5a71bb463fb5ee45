import LadderBackbone
import LadderCore
import LadderData
import LadderEval
import LadderInference
import LadderMethods
import LadderTrain

/// Keeps the activations of all blocks that candidates may read, of the samples that they learn from and are judged by.
struct CacheFilling {
  private let backbone: Backbone
  private let rungs: [Int]
  private let cache: CacheOptions
  private let train: [PackedSample]
  private let judge: [Sample]
  private let evaluation: EvaluationOptions

  /// - Parameter objectives: what candidates may learn: each has its own rows that carry loss.
  init(
    _ backbone: Backbone, rungs: [Int], cache: CacheOptions, train: [Sample], judge: [Sample], _ base: TrainingOptions,
    objectives: [Objective], evaluation: EvaluationOptions
  ) throws {
    let settings = try base.configuration()
    var seen: Set<SampleKey> = [], packed: [PackedSample] = []
    for objective in objectives {
      packed += try settings.encoder(backbone, objective: objective).examples(train, name: "the samples")
        .examples.flatMap(\.packed).filter { seen.insert(SampleKey($0)).inserted }
    }
    self.backbone = backbone
    self.rungs = rungs
    self.cache = cache
    self.train = packed
    self.judge = judge
    self.evaluation = evaluation
  }

  /// Of the samples to learn from.
  var tokens: Int { train.reduce(0) { $0 + $1.tokens.count } }

  /// Of those, the tokens that the cache does not hold, what they take of it, and what is left of its limit.
  func missing() throws -> (tokens: Int, bytes: Int, room: Int?) {
    let store = try cache.open(backbone, TapNeeds(rungs: rungs), longest: longest(train))
    let missing = train.filter { !store.holds($0) }
    return (missing.reduce(0) { $0 + $1.tokens.count }, missing.reduce(0) { $0 + store.bytes(of: $1) }, store.room)
  }

  /// Tokens a second, of some two thousand.
  func speed() throws -> Double {
    let some = Array(train.prefix(max(1, 2048 * train.count / max(1, tokens))))
    let reader = try BackbonePredictor(backbone, rungs: rungs).reader(maxTokens: longest(some), cache: nil)
    let count = some.reduce(0) { $0 + $1.tokens.count }, began = ContinuousClock.now
    for group in ActivationFilling.groups(some) { _ = try reader.rows(group) }
    return Double(count) / max(1e-9, (ContinuousClock.now - began).seconds)
  }

  /// - Parameter report: called with samples done and samples in all.
  func fill(_ report: (Int, Int) -> Void) throws {
    try keep(report)
    _ = try LadderModel(BackbonePredictor(backbone, rungs: rungs)).evaluate(judge, options: evaluation)
  }

  /// Closes the cache when it is done: one writes to it at a time, and the evaluation is the next.
  private func keep(_ report: (Int, Int) -> Void) throws {
    let needs = TapNeeds(rungs: rungs), store = try cache.open(backbone, needs, longest: longest(train))
    let filling = try ActivationFilling(backbone, needs, cache: store, maxTokens: longest(train))
    var done = 0
    try filling.fill(ActivationFilling.groups(train)) { group in
      done += group.count
      report(done, train.count)
    }
  }

  private func longest(_ samples: [PackedSample]) -> Int { samples.map(\.tokens.count).max() ?? 1 }
}
