import Foundation
import LadderCompute

/// AdamW (Loshchilov & Hutter 2019): decoupled weight decay, on matrices alone.
package final class AdamW {
  package struct Settings: Codable, Sendable, Equatable {
    package var beta1: Float = 0.9
    package var beta2: Float = 0.95
    package var epsilon: Float = 1e-8
    package var weightDecay: Float = 0.01
    /// The global gradient norm is scaled down to this.
    package var clip: Float = 1
    package init() {}
  }

  private let parameters: Parameters
  private let settings: Settings
  private let pool: TensorPool
  private let graph: Graph
  private let first: [Tensor]
  private let second: [Tensor]
  private let control: [Tensor]
  /// Steps taken.
  package private(set) var step = 0

  package init(_ parameters: Parameters, _ settings: Settings, _ engine: Engine) throws {
    self.parameters = parameters
    self.settings = settings
    let pool = TensorPool(engine, tensors: 64)
    self.pool = pool
    graph = try Graph(engine, nodes: 256)
    first = try parameters.groups.map { try Self.zeros(like: $0.values, pool) }
    second = try parameters.groups.map { try Self.zeros(like: $0.values, pool) }
    control = try parameters.groups.map { _ in try pool.make(.float32, [7]) }
  }

  /// ‖g‖₂ over every parameter.
  package func gradientNorm() throws -> Float {
    graph.reset()
    let sums = parameters.groups.compactMap { group in group.gradients.map { graph.keep(graph.sum(graph.square($0))) } }
    try graph.compute()
    return Float(sums.reduce(0.0) { $0 + Double($1.scalar()) }.squareRoot())
  }

  /// Clips to `settings.clip`, takes one step and zeroes the gradients.
  /// - Returns: the gradient norm before clipping.
  /// - Throws: `data` where the gradient is not finite; the parameters stay as they were.
  package func update(learningRate: Float) throws -> Float {
    let norm = try gradientNorm()
    guard norm.isFinite else {
      throw LadderError(.data, "the gradient is not finite at step \(step + 1): lower --learning-rate; the last checkpoint is intact")
    }
    step += 1
    graph.reset()
    for (index, group) in parameters.groups.enumerated() {
      guard var gradient = group.gradients else { continue }
      control[index].write([
        learningRate, settings.beta1, settings.beta2, settings.epsilon, group.decays ? settings.weightDecay : 0,
        1 / (1 - powf(settings.beta1, Float(step))), 1 / (1 - powf(settings.beta2, Float(step))),
      ])
      if norm > settings.clip, settings.clip > 0 { gradient = graph.scaleInPlace(gradient, settings.clip / norm) }
      _ = graph.adamW(group.values, gradient, first[index], second[index], control[index])
    }
    try graph.compute()
    parameters.zeroGradients()
    return norm
  }

  // MARK: - State

  /// First and second moments, group by group.
  package func state() -> [[Float]] { (first + second).map { $0.read() } }

  package func restore(_ state: [[Float]], step: Int) {
    for (tensor, values) in zip(first + second, state) { tensor.write(values) }
    self.step = step
  }

  /// Numbers in each array of `state`.
  package var stateCounts: [Int] { (first + second).map(\.count) }

  private static func zeros(like tensor: Tensor, _ pool: TensorPool) throws -> Tensor {
    let result = try pool.make(.float32, [tensor[0], tensor[1]])
    result.zero()
    return result
  }
}
