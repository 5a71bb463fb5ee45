import LadderCompute
import LadderData

/// The backbone's taps and final rows, from the activation cache where it holds them and from the backbone where not.
///
/// The backbone's blocks are loaded at the first sample that the cache does not hold: never, where it holds all.
package final class CachedTaps: TapSource {
  package let needs: TapNeeds
  package var rungs: [Int] { needs.rungs }
  package let cache: ActivationCache?
  package var roundsTaps: Bool { cache.map { $0.description.format != .f32 } ?? false }
  private let backbone: Backbone
  private let maxTokens: Int
  private let adapter: EngineAdapter?
  private var forward: ForwardPass?
  /// Whether what the backbone computes is stored in the cache.
  private var keeps = true

  package init(
    _ backbone: Backbone, _ needs: TapNeeds, maxTokens: Int, cache: ActivationCache? = nil,
    adapter: EngineAdapter? = nil
  ) throws {
    precondition(cache == nil || adapter == nil, "the cache holds the model's own activations")
    self.adapter = adapter
    self.backbone = backbone
    self.needs = needs
    self.maxTokens = maxTokens
    self.cache = cache
    if cache == nil { _ = try forwardPass() }
  }

  /// A micro-batch is read whole or computed whole, so that what is computed never depends on what happened to be
  /// cached.
  package func run(_ samples: [PackedSample], taps: [Tensor], final: Tensor?) throws {
    guard let cache, needs.readsFinal == (final != nil) else {
      return try forwardPass().run(samples, taps: taps, final: final)
    }
    if cache.read(samples, taps: taps, final: final) { return }
    try forwardPass().run(samples, taps: taps, final: final)
    guard keeps else { return }
    let hasSome = samples.contains(where: cache.holds)
    cache.write(samples, taps: taps, final: final)
    // In this epoch too a method reads what later epochs will, and what the same step would if it were taken again.
    if cache.description.format == .q8 || hasSome, samples.allSatisfy(cache.holds) {
      _ = cache.read(samples, taps: taps, final: final)
    }
  }

  /// Runs `body` storing nothing: what looks at samples before training begins groups them in its own way, and the last
  /// bits of what the backbone computes depend on that.
  package func withoutKeeping<R>(_ body: () throws -> R) rethrows -> R {
    keeps = false
    defer { keeps = true }
    return try body()
  }

  private func forwardPass() throws -> ForwardPass {
    if let forward { return forward }
    let made = try ForwardPass(
      backbone, rungs: rungs, maxTokens: maxTokens, adapter: adapter, stopsAtLastTap: needs.endsAtLastTap)
    forward = made
    return made
  }
}
