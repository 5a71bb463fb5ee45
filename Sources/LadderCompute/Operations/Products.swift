import CLlama

/// Products by the device's own kernels. Shapes: a [k, m, …], b [k, n, …] → [m, n, …].
extension Graph {
  package func matmul(_ a: Tensor, _ b: Tensor) -> Tensor {
    let node = ggml_mul_mat(context, operand(a).pointer, operand(b).pointer)
    // Sums too would be in half precision there.
    if engine.roundsProducts != .none { ggml_prec_set_acc(node, GGML_PREC_F32) }
    return add(node)
  }

  /// The same where `b` carries a gradient, which may be smaller than any number in half precision: where the device
  /// would take that for F32, `a` is in BF16, and `b` with it.
  package func matmul(_ a: Tensor, gradient b: Tensor) -> Tensor { matmul(withRange(a), b) }

  /// A first operand whose product with a gradient has F32's range.
  func withRange(_ a: Tensor) -> Tensor {
    engine.roundsProducts == .all && a.pointer.pointee.type == GGML_TYPE_F32 ? cast(a, .bfloat16) : a
  }

  /// A factor in its own precision: a copy where the device would round it.
  private func operand(_ a: Tensor) -> Tensor {
    let rowsTouch = a.stride(1) == a.stride(0) * a[0]
    return engine.roundsProducts == .ofViews && a.pointer.pointee.type == GGML_TYPE_F32 && !rowsTouch
      ? contiguous(a) : a
  }

  /// `W·x` of a low-rank F32 W on the CPU, a sum of few scaled rows for each column, where `matmul` would add up each
  /// of its numbers across a vector for a few products; nil for any other. Shapes: w [k, m], x [k, n] → [m, n].
  func narrowMatmul(_ w: Tensor, _ x: Tensor) -> Tensor? { isNarrow(w, w[0]) ? outerProduct(transposed(w), x) : nil }

  /// The same with Wᵀ. Shapes: w [k, m], x [m, n] → [k, n].
  func narrowMatmul(transpose w: Tensor, _ x: Tensor) -> Tensor? { isNarrow(w, w[1]) ? outerProduct(w, x) : nil }

  private func isNarrow(_ w: Tensor, _ inner: Int) -> Bool {
    engine.isCPU && w.pointer.pointee.type == GGML_TYPE_F32 && inner <= 32 && w[2] == 1
  }

  /// Shapes: a [m, k], x [k, n] → [m, n].
  private func outerProduct(_ a: Tensor, _ x: Tensor) -> Tensor {
    add(ggml_out_prod(context, a.pointer, add(ggml_transpose(context, x.pointer)).pointer))
  }
}

/// Which products of F32 a device works in half precision.
enum RoundedProducts {
  case none
  /// Those of views whose rows lie apart: ggml's Vulkan backend.
  case ofViews
  /// All with more than a few columns: the same on hardware that has half precision.
  case all

  /// What a Vulkan device does, by a product of numbers too small for that precision.
  init(_ engine: Engine) throws {
    let pool = TensorPool(engine), graph = try Graph(engine, nodes: 8)
    let small = try pool.make([Float](repeating: 1e-9, count: 64 * 32), [64, 32])
    let product = graph.keep(graph.matmul(small, try pool.make([Float](repeating: 1, count: 64 * 32), [64, 32])))
    try graph.compute()
    self = product.read().allSatisfy { $0 > 3e-8 } ? .ofViews : .all
  }
}
