/// Results that a forward pass keeps so that its backward pass, a graph of its own, need not compute them again.
///
/// The forward pass records in the order in which its operations run; after `replay` the same operations in the same
/// order are handed what they gave.
package final class KeptResults {
  private let pool: TensorPool
  private let type: ElementType
  /// Whether products are kept where keeping them is a choice between memory and time.
  package let keepsProducts: Bool
  private var tensors: [Tensor] = []
  private var next = 0
  private var replays = false
  private var failure: (any Error)?

  /// - Parameter type: F32, or BF16 for half the memory.
  package init(_ pool: TensorPool, _ type: ElementType, keepsProducts: Bool = true) {
    self.keepsProducts = keepsProducts
    self.pool = pool
    self.type = type
  }

  /// From here on results are kept, in the place of those of an earlier pass.
  package func record() {
    next = 0
    replays = false
    failure = nil
  }

  /// From here on results are handed out.
  package func replay() {
    next = 0
    replays = true
  }

  /// - Throws: what recording could not get memory for.
  package func check() throws { if let failure { throw failure } }

  func result(_ graph: Graph, _ make: () -> Tensor) -> Tensor {
    if replays {
      let kept = tensors[next]
      next = next + 1 < tensors.count ? next + 1 : 0
      return type == .float32 ? kept : graph.cast(kept, .float32)
    }
    let made = make()
    do {
      if next == tensors.count { tensors.append(try pool.make(type, made.shape)) }
      graph.store(made, in: tensors[next])
      next += 1
    } catch { failure = error }
    return made
  }
}
