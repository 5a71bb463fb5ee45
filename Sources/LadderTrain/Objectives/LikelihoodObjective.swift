import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods

/// The cross-entropy of each loss row, over the whole vocabulary or, for rows that have them, among their rivals.
package final class LikelihoodObjective: TrainingObjective {
  /// Where the configuration asks for it and there is a cache.
  package private(set) var cachedHead: CachedHead?
  private let backbone: Backbone
  private let loss: CrossEntropy
  private var use = HeadUse.exact
  private var comparison = Comparison()

  init(_ loss: CrossEntropy, _ backbone: Backbone) {
    self.loss = loss
    self.backbone = backbone
  }

  package var bytes: Int { loss.bytes + (cachedHead?.bytes ?? 0) }

  package func weight(_ example: TrainingExample) -> Int { example.sequences.reduce(0) { $0 + $1.lossRows.count } }

  package func prepare(_ examples: [TrainingExample], _ learner: any Learner) throws {}

  package func evaluate(_ rows: Tensor, _ examples: [TrainingExample], gradient: Tensor?, scale: Float, seed: UInt64)
    throws -> Double
  {
    let samples = examples.flatMap(\.sequences)
    let all =
      try gradient.map { try losses(rows, samples, $0, scale: scale, seed: seed) }
      ?? loss.evaluate(rows, targets: samples.flatMap(\.targets), rivals: samples.flatMap(\.rivals))
    return all.reduce(0.0) { $0 + Double($1) }
  }

  // MARK: - The cached head

  /// - Throws: `usage` on an accelerator.
  func cacheHead(_ samples: [EncodedSample], in cache: ActivationCache) throws {
    guard backbone.engine.isCPU else {
      throw LadderError(.usage, "`head` cached runs on the CPU alone; leave it out, or pass `device` CPU")
    }
    cachedHead = try CachedHead(backbone, try cache.references(common: HeadReferences.commonEntries(samples)))
  }

  /// How the next step works the head.
  func begin(_ use: HeadUse) {
    self.use = use
    comparison = Comparison()
  }

  /// Of a step that was worked both ways.
  /// - Parameter rows: loss rows of the step.
  func drift(_ rows: Int) -> HeadDrift? { use == .both ? comparison.drift(rows) : nil }

  /// The two heads' losses and gradients so far in a step.
  private struct Comparison {
    var loss = 0.0
    var difference = 0.0
    var square = 0.0
    var isWhole = true

    /// Nil where some rows had no reference.
    func drift(_ rows: Int) -> HeadDrift? {
      isWhole
        ? HeadDrift(loss: loss / Double(max(1, rows)), gradient: (difference / max(1e-30, square)).squareRoot()) : nil
    }
  }

  /// Losses of a micro-batch's rows, and their gradient. Shapes: corrected and gradient [d, rows].
  private func losses(
    _ corrected: Tensor, _ samples: [EncodedSample], _ gradient: Tensor, scale: Float, seed: UInt64
  ) throws -> [Float] {
    let targets = samples.flatMap(\.targets), rivals = samples.flatMap(\.rivals)
    guard let cachedHead, rivals.allSatisfy(\.isEmpty) else {
      comparison.isWhole = false
      return try loss.evaluate(
        corrected, targets: targets, rivals: rivals, gradient: gradient, scale: scale, seed: seed)
    }
    let known = use == .exact ? nil : cachedHead.references.read(samples)
    let cached = try known.map {
      try cachedHead.evaluate(corrected, $0, targets: targets, gradient: gradient, scale: scale)
    }
    if let cached, use == .cached { return cached }
    let before = cached.map { _ in gradient.read() }
    let stores = use == .exact && cachedHead.references.stores && !cachedHead.references.hold(samples)
    var taken: [RowReference] = []
    let exact = try loss.evaluate(corrected, targets: targets, gradient: gradient, scale: scale, seed: seed) {
      chunk, rows in
      if stores { taken += try cachedHead.take(corrected, chunk, rows, targets: Array(targets[chunk])) }
    }
    if stores, taken.count == targets.count { cachedHead.references.write(samples, taken) }
    if let cached, let before {
      comparison.loss += zip(cached, exact).reduce(0.0) { $0 + Double($1.0 - $1.1) }
      for (a, b) in zip(before, gradient.read()) {
        comparison.difference += Double((a - b) * (a - b))
        comparison.square += Double(b * b)
      }
    } else {
      comparison.isWhole = false
    }
    return exact
  }
}
