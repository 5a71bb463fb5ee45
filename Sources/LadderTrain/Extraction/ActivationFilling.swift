import LadderBackbone
import LadderCompute
import LadderCore
import LadderData

/// Runs samples through the model so that a cache keeps what it hands out.
package struct ActivationFilling {
  private let cache: ActivationCache
  private let source: CachedTaps
  private let needs: TapNeeds
  private let width: Int
  private let pool: TensorPool

  /// - Parameter maxTokens: the longest sample.
  package init(_ backbone: Backbone, _ needs: TapNeeds, cache: ActivationCache, maxTokens: Int) throws {
    self.cache = cache
    self.needs = needs
    width = backbone.width
    source = try CachedTaps(backbone, needs, maxTokens: maxTokens, cache: cache)
    pool = TensorPool(backbone.engine, tensors: needs.rungs.count + 8)
  }

  /// Samples of like lengths, which go through the model together. What the model's last bits are depends on that.
  package static func groups(_ samples: [PackedSample]) -> [[PackedSample]] {
    BatchPlan.byLength(samples.map(\.tokens.count), tokens: 2048).map { $0.map { samples[$0] } }
  }

  /// - Parameter report: called with each group that the cache holds by then.
  /// - Throws: `inputOutput` where the cache stores no more.
  package func fill(_ groups: [[PackedSample]], report: ([PackedSample]) -> Void) throws {
    for group in groups {
      try Cancellation.check()
      if !group.allSatisfy(cache.holds) {
        try pool.reset()
        let tokens = group.reduce(0) { $0 + $1.tokens.count }, rows = group.reduce(0) { $0 + $1.lossRows.count }
        let type: ElementType = source.roundsTaps ? .bfloat16 : .float32
        let taps = try needs.rungs.map { _ in try pool.make(type, [width, tokens]) }
        let final = needs.readsFinal ? try pool.make(.float32, [width, rows]) : nil
        try source.run(group, taps: taps, final: final)
        if let why = cache.stopped { throw LadderError(.inputOutput, "the activation cache stores no more: \(why)") }
      }
      report(group)
    }
  }
}
