import Foundation
import LadderBackbone
import LadderCompute
import LadderCore

/// AdamW (Loshchilov & Hutter 2019): decoupled weight decay, on matrices alone.
package final class AdamW {
  package struct Settings: Codable, Sendable, Equatable {
    package var beta1: Float = 0.9
    package var beta2: Float = 0.95
    package var epsilon: Float = 1e-8
    package var weightDecay: Float = 0.01
    /// The global gradient norm is scaled down to this.
    package var clip: Float = 1
    /// Keep the moments in 8 bits: a quarter of the memory.
    package var eightBit = false
    package init() {}
  }

  private let parameters: Parameters
  private let settings: Settings
  private let pool: TensorPool
  private let graph: Graph
  private let first: [Tensor]
  private let second: [Tensor]
  private let control: [Tensor]
  /// One per group, in place of `first` and `second`.
  private var small: [EightBitMoments] = []
  private let tasks: HostTasks
  /// Steps taken.
  package private(set) var step = 0

  package init(_ parameters: Parameters, _ settings: Settings, _ engine: Engine) throws {
    self.parameters = parameters
    self.settings = settings
    let pool = TensorPool(engine, tensors: 64)
    self.pool = pool
    tasks = try HostTasks(engine)
    graph = try Graph(engine, nodes: 256 + parameters.groups.reduce(0) { $0 + 8 * ($1.values[1] / 1024 + 1) })
    first = settings.eightBit ? [] : try parameters.groups.map { try Self.zeros(like: $0.values, pool) }
    second = settings.eightBit ? [] : try parameters.groups.map { try Self.zeros(like: $0.values, pool) }
    if settings.eightBit { small = parameters.groups.map { EightBitMoments(count: $0.values.count) } }
    control = try parameters.groups.map { _ in try pool.make(.float32, [7]) }
  }

  /// ‖g‖₂ over every parameter.
  package func gradientNorm() throws -> Float {
    graph.reset()
    // In slices of 4 MB, so that no second copy of the whole gradient exists.
    let sums = parameters.groups.compactMap(\.gradients).flatMap { gradients in
      stride(from: 0, to: gradients[1], by: 1024).map { start in
        graph.keep(graph.sum(graph.square(graph.slice(gradients, 1, start..<min(start + 1024, gradients[1])))))
      }
    }
    try graph.compute()
    return Float(sums.reduce(0.0) { $0 + Double($1.scalar()) }.squareRoot())
  }

  /// Clips to `settings.clip`, takes one step and zeroes the gradients.
  /// - Returns: the gradient norm before clipping.
  /// - Throws: `data` where the gradient is not finite; the parameters stay as they were.
  package func update(learningRate: Float) throws -> Float {
    let norm = try gradientNorm()
    guard norm.isFinite else {
      throw LadderError(
        .data, "the gradient is not finite at step \(step + 1): lower `learningRate`; the last checkpoint is intact")
    }
    step += 1
    let clip = norm > settings.clip && settings.clip > 0 ? settings.clip / norm : 1
    if settings.eightBit {
      try updateSmall(learningRate: learningRate, clip: clip)
      parameters.zeroGradients()
      return norm
    }
    graph.reset()
    for (index, group) in parameters.groups.enumerated() {
      guard var gradient = group.gradients else { continue }
      control[index].write([
        learningRate, settings.beta1, settings.beta2, settings.epsilon, group.decays ? settings.weightDecay : 0,
        1 / (1 - powf(settings.beta1, Float(step))), 1 / (1 - powf(settings.beta2, Float(step))),
      ])
      if clip != 1 { gradient = graph.scaleInPlace(gradient, clip) }
      graph.adamW(group.values, gradient, first[index], second[index], control[index])
    }
    try graph.compute()
    parameters.zeroGradients()
    return norm
  }

  private func updateSmall(learningRate: Float, clip: Float) throws {
    for (index, group) in parameters.groups.enumerated() {
      guard let gradients = group.gradients else { continue }
      let step = EightBitMoments.Step(
        learningRate: learningRate, beta1: settings.beta1, beta2: settings.beta2, epsilon: settings.epsilon,
        decay: group.decays ? settings.weightDecay : 0, correction1: 1 / (1 - powf(settings.beta1, Float(self.step))),
        correction2: 1 / (1 - powf(settings.beta2, Float(self.step))), clip: clip)
      try group.values.withHostBytes(writeBack: true) { values in
        try gradients.withHostBytes {
          try small[index].update(values.bindMemory(to: Float.self), $0.bindMemory(to: Float.self), step, on: tasks)
        }
      }
    }
  }

  // MARK: - State

  /// First and second moments, group by group, each as it is kept.
  package var state: [Safetensors.Entry] {
    settings.eightBit ? small.flatMap(\.state) : (first + second).map { .init($0, shape: [$0.count]) }
  }

  /// - Parameter state: as many entries as `state` has, of as many numbers each.
  package func restore(_ state: [Safetensors.Entry], step: Int) throws {
    for (tensor, entry) in zip(first + second, state) { try entry.copy(to: tensor) }
    for index in small.indices { try small[index].restore(state[(4 * index)..<(4 * index + 4)]) }
    self.step = step
  }

  private static func zeros(like tensor: Tensor, _ pool: TensorPool) throws -> Tensor {
    let result = try pool.make(.float32, [tensor[0], tensor[1]])
    result.zero()
    return result
  }
}
