import LadderBackbone
import LadderCompute

/// The mean of the parameters over a run's last steps: flatter minima, steadier results (Izmailov et al. 2018,
/// "Averaging Weights Leads to Wider Optima and Better Generalization", eq. for w_SWA with every step a sample).
package final class WeightAverage {
  private let parameters: Parameters
  private let pool: TensorPool
  private let graph: Graph
  private let means: [Tensor]
  /// Steps that the mean is over.
  package private(set) var count = 0

  package init(_ parameters: Parameters, _ engine: Engine) throws {
    self.parameters = parameters
    let pool = TensorPool(engine, tensors: 8)
    self.pool = pool
    let parts = parameters.groups.reduce(0) { $0 + $1.values.count / Self.numbersAtOnce + 2 }
    graph = try Graph(engine, nodes: 64 + 8 * parts)
    means = try parameters.groups.map { try pool.make(.float32, [$0.values[0], $0.values[1]]) }
    means.forEach { $0.zero() }
  }

  private static let numbersAtOnce = 1 << 20

  package var bytes: Int { pool.capacity + graph.workspace }

  /// Takes the parameters as they stand into the mean.
  package func add() throws {
    count += 1
    graph.reset()
    for (mean, group) in zip(means, parameters.groups) {
      // Some at a time: what is scaled is a copy.
      let rows = max(1, Self.numbersAtOnce / mean[0])
      for start in stride(from: 0, to: mean[1], by: rows) {
        let part = start..<min(start + rows, mean[1])
        let kept = graph.scaleInPlace(graph.slice(mean, 1, part), 1 - 1 / Float(count))
        _ = graph.addInPlace(kept, graph.scale(graph.slice(group.values, 1, part), 1 / Float(count)))
      }
    }
    try graph.compute()
  }

  /// Begins anew where most of the mean's steps are not among the last ones: of a run that has grown since.
  /// - Parameters:
  ///   - step: the last that was taken.
  ///   - first: the last before those that the mean is to be over.
  package func begin(at step: Int, from first: Int) {
    guard 2 * (first - (step - count)) > count else { return }
    means.forEach { $0.zero() }
    count = 0
  }

  /// Runs `body` with the mean in the parameters' place; without a step in the mean, with the parameters themselves.
  package func used<R>(_ body: () throws -> R) rethrows -> R {
    if count == 0 { return try body() }
    func exchange() { for (mean, group) in zip(means, parameters.groups) { mean.exchange(with: group.values) } }
    exchange()
    defer { exchange() }
    return try body()
  }

  // MARK: - State

  package var state: [Safetensors.Entry] { means.map { .init($0, shape: [$0.count]) } }

  package func restore(_ state: [Safetensors.Entry], count: Int) throws {
    for (mean, entry) in zip(means, state) { try entry.copy(to: mean) }
    self.count = count
  }
}
