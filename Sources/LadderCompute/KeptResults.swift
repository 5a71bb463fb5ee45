/// Results that a forward pass keeps so that its backward pass, a graph of its own, need not compute them again.
///
/// The forward pass records in the order in which its operations run; after `replay` the same operations in the same order are
/// handed what they gave.
package final class KeptResults {
  private let pool: TensorPool
  private let type: ElementType
  private var tensors: [Tensor] = []
  private var next: Int?
  private var failure: (any Error)?

  /// - Parameter type: F32, or BF16 for half the memory.
  package init(_ pool: TensorPool, _ type: ElementType) {
    self.pool = pool
    self.type = type
  }

  /// From here on results are handed out.
  package func replay() { next = 0 }

  /// - Throws: what recording could not get memory for.
  package func check() throws { if let failure { throw failure } }

  func result(_ graph: Graph, _ make: () -> Tensor) -> Tensor {
    if let index = next {
      next = index + 1 < tensors.count ? index + 1 : 0
      return type == .float32 ? tensors[index] : graph.cast(tensors[index], .float32)
    }
    let y = make()
    do {
      let kept = try pool.make(type, y.shape)
      graph.store(y, in: kept)
      tensors.append(kept)
    } catch { failure = error }
    return y
  }
}
