import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods

/// Preference tuning. The reference is the model alone: of a side network its own final rows, which every step has
/// anyway, so there is no second model and no second forward pass. Each answer's reference is worked once in a process.
package final class PreferenceObjective: TrainingObjective {
  private let settings: PreferenceSettings
  private let loss: CrossEntropy
  private let graph: Graph
  private let pool: TensorPool
  /// ln p₀ of the answers met so far.
  private var references: [SampleKey: Double] = [:]

  init(_ settings: PreferenceSettings, _ loss: CrossEntropy, _ backbone: Backbone) throws {
    self.settings = settings
    self.loss = loss
    graph = try Graph(backbone.engine, nodes: 16)
    pool = TensorPool(backbone.engine, tensors: 8)
  }

  package var bytes: Int { loss.bytes + pool.capacity + graph.workspace }

  package func weight(_ example: TrainingExample) -> Int { 1 }

  package func prepare(_ examples: [TrainingExample], _ learner: any Learner) throws {
    let samples = examples.flatMap(\.sequences), keys = samples.map { SampleKey(withTargets: $0) }
    guard settings.hasReference, keys.contains(where: { references[$0] == nil }) else { return }
    let losses = try loss.evaluate(try learner.referenceRows(), targets: samples.flatMap(\.targets), asInTraining: true)
    for (key, sum) in zip(keys, Self.logLikelihoods(losses, samples)) { references[key] = sum }
  }

  package func evaluate(_ rows: Tensor, _ examples: [TrainingExample], gradient: Tensor?, scale: Float, seed: UInt64)
    throws -> Double
  {
    let samples = examples.flatMap(\.sequences)
    let losses = try loss.evaluate(
      rows, targets: samples.flatMap(\.targets), gradient: gradient, seed: seed, asInTraining: true)
    let likelihoods = Self.logLikelihoods(losses, samples)
    var sum = 0.0, factors: [Float] = []
    for place in examples.indices {
      let (chosen, rejected) = (samples[2 * place], samples[2 * place + 1])
      func reference(_ sample: EncodedSample) -> Double {
        settings.hasReference ? references[SampleKey(withTargets: sample)] ?? 0 : 0
      }
      let pair = PreferencePair(
        chosen: likelihoods[2 * place], rejected: likelihoods[2 * place + 1], chosenReference: reference(chosen),
        rejectedReference: reference(rejected),
        chosenTokens: chosen.targets.count, rejectedTokens: rejected.targets.count)
      let (loss, byChosen, byRejected) = pair.evaluate(settings)
      sum += loss
      // Rows' gradients are those of −ln p.
      factors += repeatElement(-Float(byChosen) * scale, count: chosen.targets.count)
      factors += repeatElement(-Float(byRejected) * scale, count: rejected.targets.count)
    }
    if let gradient {
      try pool.reset()
      let weights = try pool.make(factors, [1, factors.count])
      graph.reset()
      graph.store(graph.multiply(gradient, weights), in: gradient)
      try graph.compute()
    }
    return sum
  }

  /// ln p of each sample's targets together.
  private static func logLikelihoods(_ losses: [Float], _ samples: [EncodedSample]) -> [Double] {
    var first = 0
    return samples.map { sample in
      defer { first += sample.targets.count }
      return -losses[first..<(first + sample.targets.count)].reduce(0.0) { $0 + Double($1) }
    }
  }
}
