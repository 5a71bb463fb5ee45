import CLlama

/// A second copy of a quantised matrix, its rows interleaved so that the CPU multiplies them several times faster.
///
/// ggml packs the weights of llama.cpp's blocks like this; a matrix whose single rows are read too needs its plain layout beside it.
package final class PackedMatrix {
  package let tensor: Tensor
  package let bytes: Int
  private let context: OpaquePointer
  private let buffer: ggml_backend_buffer_t

  /// - Returns: nil where this processor has no faster layout for the matrix's type and shape, or the engine is no CPU.
  package init?(_ plain: Tensor, _ engine: Engine) {
    guard engine.isCPU, let registry = ggml_backend_dev_backend_reg(engine.device),
      let address = ggml_backend_reg_get_proc_address(registry, "ggml_backend_dev_get_extra_bufts"),
      let types = unsafeBitCast(address, to: ggml_backend_dev_get_extra_bufts_t.self)(engine.device)
    else { return nil }
    var index = 0
    while let type = types[index] {
      index += 1
      let context = ggml_init(ggml_init_params(mem_size: 4 * ggml_tensor_overhead(), mem_buffer: nil, no_alloc: true))
      guard let context, let copy = ggml_new_tensor_2d(context, plain.pointer.pointee.type, Int64(plain[0]), Int64(plain[1])) else { return nil }
      ggml_set_name(copy, "packed_head")
      if let buffer = ggml_backend_alloc_ctx_tensors_from_buft(context, type) {
        // The buffer type marks a tensor that it can pack.
        if copy.pointee.extra != nil, Self.multiplies(copy, engine) {
          plain.withHostBytes { ggml_backend_tensor_set(copy, $0.baseAddress, 0, $0.count) }
          tensor = Tensor(copy)
          bytes = ggml_backend_buffer_get_size(buffer)
          self.context = context
          self.buffer = buffer
          return
        }
        ggml_backend_buffer_free(buffer)
      }
      ggml_free(context)
    }
    return nil
  }

  deinit {
    ggml_backend_buffer_free(buffer)
    ggml_free(context)
  }

  private static func multiplies(_ matrix: UnsafeMutablePointer<ggml_tensor>, _ engine: Engine) -> Bool {
    guard let context = ggml_init(ggml_init_params(mem_size: 8 * ggml_tensor_overhead(), mem_buffer: nil, no_alloc: true)) else { return false }
    defer { ggml_free(context) }
    let rows = ggml_new_tensor_2d(context, GGML_TYPE_F32, matrix.pointee.ne.0, 16)
    return ggml_backend_supports_op(engine.main, ggml_mul_mat(context, matrix, rows))
  }
}
