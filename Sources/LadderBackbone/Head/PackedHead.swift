import CLlama
import LadderCompute

/// A second copy of a quantised head, tile by tile, its rows interleaved so that the CPU multiplies them several times
/// faster.
///
/// ggml packs the weights of llama.cpp's blocks like this; a matrix whose single rows are read too needs its plain
/// layout beside it.
final class PackedHead {
  /// The largest head, in bytes, that is worth a second copy.
  static let limit = 128 << 20

  /// One for each tile of `rows` vocabulary entries.
  let tiles: [Tensor]
  let rows: Int
  let bytes: Int
  private let context: OpaquePointer
  private let buffer: ggml_backend_buffer_t

  /// - Parameter rows: vocabulary entries of a tile, a multiple of 8; the last one may hold fewer.
  /// - Returns: nil where this processor has no faster layout for the head's type and shape, or the engine is no CPU.
  init?(_ plain: Tensor, rows: Int, _ engine: Engine) {
    guard engine.isCPU, plain.bytes <= Self.limit, let registry = ggml_backend_dev_backend_reg(engine.device),
      let address = ggml_backend_reg_get_proc_address(registry, "ggml_backend_dev_get_extra_bufts"),
      let types = unsafeBitCast(address, to: ggml_backend_dev_get_extra_bufts_t.self)(engine.device)
    else { return nil }
    let starts = Array(stride(from: 0, to: plain[1], by: rows))
    var index = 0
    while let type = types[index] {
      index += 1
      let size = (starts.count + 4) * ggml_tensor_overhead()
      guard let context = ggml_init(ggml_init_params(mem_size: size, mem_buffer: nil, no_alloc: true)) else {
        return nil
      }
      let copies = starts.compactMap { start in
        ggml_new_tensor_2d(context, plain.pointer.pointee.type, Int64(plain[0]), Int64(min(rows, plain[1] - start)))
      }
      for copy in copies { ggml_set_name(copy, "packed_head") }
      if copies.count == starts.count, let buffer = ggml_backend_alloc_ctx_tensors_from_buft(context, type) {
        // The buffer type marks a tensor that it can pack.
        if copies.allSatisfy({ $0.pointee.extra != nil && Self.multiplies($0, engine) }) {
          plain.withHostBytes { bytes in
            for (start, copy) in zip(starts, copies) {
              ggml_backend_tensor_set(
                copy, bytes.baseAddress.map { $0 + start * plain.stride(1) }, 0, ggml_nbytes(copy))
            }
          }
          tiles = copies.map { Tensor($0) }
          bytes = ggml_backend_buffer_get_size(buffer)
          self.rows = rows
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
    guard
      let context = ggml_init(ggml_init_params(mem_size: 8 * ggml_tensor_overhead(), mem_buffer: nil, no_alloc: true))
    else { return false }
    defer { ggml_free(context) }
    let rows = ggml_new_tensor_2d(context, GGML_TYPE_F32, matrix.pointee.ne.0, 16)
    return engine.supports(ggml_mul_mat(context, matrix, rows))
  }
}
