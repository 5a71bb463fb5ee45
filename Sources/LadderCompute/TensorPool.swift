import CLlama
import LadderCore

/// Tensors that outlive a graph: taps, inputs, stored side states. `reset` frees all of them at once and keeps the
/// memory.
///
/// Memory comes in backend buffers; after a reset they are joined into one, so that a step like the last allocates
/// nothing.
package final class TensorPool {
  let engine: Engine
  private var context: OpaquePointer
  private var buffers: [ggml_backend_buffer_t] = []
  private var used = 0
  private let alignment: Int
  private let minimumBuffer = 1 << 20
  /// Tensors that the context has room for, and those that it holds.
  private let most: Int
  private var made = 0

  package init(_ engine: Engine, tensors: Int = 4096) {
    self.engine = engine
    most = tensors
    context = ggml_init(ggml_init_params(mem_size: ggml_tensor_overhead() * tensors, mem_buffer: nil, no_alloc: true))
    alignment = max(128, ggml_backend_get_alignment(engine.main))
  }

  deinit {
    ggml_free(context)
    for buffer in buffers { ggml_backend_buffer_free(buffer) }
  }

  /// Bytes of backend memory held.
  package var capacity: Int { buffers.reduce(0) { $0 + ggml_backend_buffer_get_size($1) } }

  /// A tensor with undefined contents.
  package func make(_ type: ElementType, _ shape: [Int]) throws -> Tensor { try make(ggmlType: type.ggml, shape) }

  /// The same for any of ggml's element types.
  package func make(ggmlType type: ggml_type, _ shape: [Int]) throws -> Tensor {
    let dimensions = shape.map(Int64.init)
    // ggml itself ends the process where a context is full.
    guard made < most, let pointer = ggml_new_tensor(context, type, Int32(dimensions.count), dimensions) else {
      throw LadderError(.engine, "too many tensors in one step: use smaller `microBatchTokens`, or `maxLength`")
    }
    made += 1
    let size = (engine.bytes(of: pointer) + alignment - 1) / alignment * alignment
    if buffers.isEmpty || used + size > ggml_backend_buffer_get_size(buffers[buffers.count - 1]) {
      buffers.append(try engine.allocate(max(size, minimumBuffer)))
      used = 0
    }
    let buffer = buffers[buffers.count - 1]
    ggml_backend_tensor_alloc(buffer, pointer, ggml_backend_buffer_get_base(buffer) + used)
    used += size
    return Tensor(pointer)
  }

  package func make(_ values: [Float], _ shape: [Int]) throws -> Tensor {
    let tensor = try make(.float32, shape)
    tensor.write(values)
    return tensor
  }

  package func make(_ values: [Int32]) throws -> Tensor {
    let tensor = try make(.int32, [values.count])
    tensor.write(values)
    return tensor
  }

  /// Forgets every tensor.
  package func reset() throws {
    ggml_reset(context)
    made = 0
    used = 0
    if buffers.count > 1 {
      let total = capacity
      for buffer in buffers { ggml_backend_buffer_free(buffer) }
      buffers = []
      buffers = [try engine.allocate(total)]
    }
  }
}
