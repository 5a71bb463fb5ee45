import CKernels
import CLlama

/// `QuantisedProduct`'s kernels in graphs that llama.cpp built: it asks about each operation before it runs it, and a
/// product with plain, quantised weights becomes an operation of ours then.
package final class EngineProducts {
  private unowned let engine: Engine
  private let context: OpaquePointer
  /// Operations that round their rows first, and that take those of the product before them.
  private var roundsFirst: UnsafeMutablePointer<ggml_tensor>?
  private var takesRounded: UnsafeMutablePointer<ggml_tensor>?
  /// Rows in 8 bits.
  private var rounded = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 64)
  /// The product that took them last, of rows of this tensor with weights of this type.
  private var last:
    (product: UnsafeMutablePointer<ggml_tensor>, source: UnsafeMutablePointer<ggml_tensor>, type: ggml_type)?

  /// Nil where the processor is no faster for it, or where another backend than its own runs products.
  init?(_ engine: Engine) {
    let isAlone = (0..<ggml_backend_dev_count()).allSatisfy {
      ggml_backend_dev_type(ggml_backend_dev_get($0)) != GGML_BACKEND_DEVICE_TYPE_ACCEL
    }
    let memory = ggml_init_params(mem_size: 8 * ggml_tensor_overhead(), mem_buffer: nil, no_alloc: true)
    guard isAlone, engine.isCPU, QuantisedProduct.serves(GGML_TYPE_Q8_0, inner: 32), let context = ggml_init(memory)
    else { return nil }
    self.engine = engine
    self.context = context
    let own = Unmanaged.passUnretained(self).toOpaque()
    var sources = [ggml_new_tensor_1d(context, GGML_TYPE_F32, 32)]
    roundsFirst = ggml_custom_4d(
      context, GGML_TYPE_F32, 32, 1, 1, 1, &sources, 1, { EngineProducts.run($0, $1, $2, $3, rounds: true) },
      GGML_N_TASKS_MAX, own)
    takesRounded = ggml_custom_4d(
      context, GGML_TYPE_F32, 32, 1, 1, 1, &sources, 1, { EngineProducts.run($0, $1, $2, $3, rounds: false) },
      GGML_N_TASKS_MAX, own)
  }

  deinit {
    rounded.deallocate()
    ggml_free(context)
  }

  /// Before a graph is run, in the engine's turn: no rows are rounded yet.
  package func begin() { last = nil }

  /// Takes an operation over, where it is a product that is done faster here. Operations come in the order in which
  /// they will run; one that was taken over stays so when its graph is run again.
  package func take(_ node: UnsafeMutablePointer<ggml_tensor>) {
    guard node.pointee.op == GGML_OP_MUL_MAT, node.pointee.flags & Int32(GGML_TENSOR_FLAG_COMPUTE.rawValue) != 0,
      let weight = node.pointee.src.0.map({ Tensor($0) }),
      let x = node.pointee.src.1.map({ Tensor($0) }), QuantisedProduct.type(engine, weight, x) != nil, x.isOnHost,
      Tensor(node).isOnHost, ggml_is_contiguous(node), node.pointee.type == GGML_TYPE_F32,
      let operation = isRounded(x, for: weight) ? takesRounded : roundsFirst
    else { return }
    node.pointee.op = operation.pointee.op
    node.pointee.op_params = operation.pointee.op_params
    last = (node, x.pointer, weight.pointer.pointee.type)
    reserve(x[1] * ladder_quantised_bytes(Int32(x[0])))
  }

  private func isRounded(_ x: Tensor, for weight: Tensor) -> Bool {
    // One row each thread rounds for itself. A graph may be built anew where the one before lay: its nodes are not taken
    // over yet.
    guard let last, x[1] > 1, last.product.pointee.op == GGML_OP_CUSTOM else { return false }
    return last.source == x.pointer && last.type == weight.pointer.pointee.type
  }

  /// What lies in the memory already may be taken again.
  private func reserve(_ bytes: Int) {
    guard bytes > rounded.count else { return }
    let more = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: 64)
    more.copyMemory(from: UnsafeRawBufferPointer(rounded))
    rounded.deallocate()
    rounded = more
  }

  private static func run(
    _ target: UnsafeMutablePointer<ggml_tensor>?, _ thread: Int32, _ threads: Int32, _ own: UnsafeMutableRawPointer?,
    rounds: Bool
  ) {
    guard let own, let target, let weight = target.pointee.src.0.map({ Tensor($0) }),
      let x = target.pointee.src.1.map({ Tensor($0) }), let out = target.pointee.data,
      let numbers = x.pointer.pointee.data
    else { return }
    let products = Unmanaged<EngineProducts>.fromOpaque(own).takeUnretainedValue()
    let rows = products.rounded.baseAddress, scratch = products.engine.productScratch
    var product = QuantisedProduct.product(weight, rounded: rows, count: x[1], out)
    if rounds {
      ladder_round_and_multiply(
        &product, numbers.assumingMemoryBound(to: Float.self), x.stride(1) / 4, rows, thread, threads, scratch)
    } else {
      ladder_quantised_multiply(&product, thread, threads, scratch)
    }
  }
}
