import CLlama

/// The element types that side networks and taps use.
package enum ElementType: Sendable {
  case float32, float16, bfloat16, int32
  /// Q8_0: 8-bit numbers in blocks of 32 with one scale each.
  case q8

  var ggml: ggml_type {
    switch self {
    case .float32: GGML_TYPE_F32
    case .float16: GGML_TYPE_F16
    case .bfloat16: GGML_TYPE_BF16
    case .int32: GGML_TYPE_I32
    case .q8: GGML_TYPE_Q8_0
    }
  }

  /// Bytes of `count` numbers, whole blocks of them.
  package func bytes(_ count: Int) -> Int { ggml_row_size(ggml, Int64(count)) }
}

/// A handle on a ggml tensor. Shapes are in ggml's order, fastest first: a matrix of `n` rows of width `k` is `[k, n]`.
///
/// The handle owns nothing: a `TensorPool`, a `Parameters` or a `Graph` does, and outlives it.
package struct Tensor: Hashable, @unchecked Sendable {
  package let pointer: UnsafeMutablePointer<ggml_tensor>

  package init(_ pointer: UnsafeMutablePointer<ggml_tensor>) { self.pointer = pointer }

  /// Elements along dimension `i`.
  package subscript(i: Int) -> Int {
    switch i {
    case 0: Int(pointer.pointee.ne.0)
    case 1: Int(pointer.pointee.ne.1)
    case 2: Int(pointer.pointee.ne.2)
    default: Int(pointer.pointee.ne.3)
    }
  }

  package var shape: [Int] { [self[0], self[1], self[2], self[3]] }
  package var count: Int { Int(ggml_nelements(pointer)) }
  package var bytes: Int { ggml_nbytes(pointer) }
  package var isBFloat16: Bool { pointer.pointee.type == GGML_TYPE_BF16 }

  /// Bytes between neighbours along dimension `i`.
  package func stride(_ i: Int) -> Int {
    switch i {
    case 0: pointer.pointee.nb.0
    case 1: pointer.pointee.nb.1
    case 2: pointer.pointee.nb.2
    default: pointer.pointee.nb.3
    }
  }

  // MARK: - Host access

  package func write(_ values: [Float]) {
    precondition(values.count == count && pointer.pointee.type == GGML_TYPE_F32)
    values.withUnsafeBytes { ggml_backend_tensor_set(pointer, $0.baseAddress, 0, $0.count) }
  }

  package func write(_ values: [Int32]) {
    precondition(values.count == count && pointer.pointee.type == GGML_TYPE_I32)
    values.withUnsafeBytes { ggml_backend_tensor_set(pointer, $0.baseAddress, 0, $0.count) }
  }

  /// Copies raw bytes, in the tensor's own element type, to `offset`.
  package func write(bytes source: UnsafeRawBufferPointer, at offset: Int = 0) {
    precondition(offset + source.count <= bytes)
    if source.count > 0 { ggml_backend_tensor_set(pointer, source.baseAddress, offset, source.count) }
  }

  /// The same of F32 numbers, which a tensor of BF16 rounds.
  /// - Returns: the bytes that they take in the tensor.
  package func write(rounding source: UnsafeRawBufferPointer, at offset: Int = 0) -> Int {
    guard pointer.pointee.type == GGML_TYPE_BF16 else {
      write(bytes: source, at: offset)
      return source.count
    }
    let numbers = source.bindMemory(to: Float.self)
    let rounded = [ggml_bf16_t](unsafeUninitializedCapacity: numbers.count) { buffer, filled in
      ggml_fp32_to_bf16_row_ref(numbers.baseAddress, buffer.baseAddress, Int64(numbers.count))
      filled = numbers.count
    }
    rounded.withUnsafeBytes { write(bytes: $0, at: offset) }
    return source.count / 2
  }

  package func read() -> [Float] {
    precondition(pointer.pointee.type == GGML_TYPE_F32 && ggml_is_contiguous(pointer))
    return [Float](unsafeUninitializedCapacity: count) { buffer, filled in
      ggml_backend_tensor_get(pointer, buffer.baseAddress, 0, bytes)
      filled = count
    }
  }

  package func scalar() -> Float { read()[0] }

  package func zero() { zero(from: 0) }

  /// Zeroes the bytes from `offset` on.
  package func zero(from offset: Int) {
    if offset < bytes { ggml_backend_tensor_memset(pointer, 0, offset, bytes - offset) }
  }

  /// Whether its memory is this process's, in whatever order: also where ggml packed it for kernels of the processor.
  package var isInProcess: Bool {
    guard !isOnHost, let buffer = pointer.pointee.buffer else { return true }
    guard let device = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(buffer)) else { return false }
    return ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU
  }

  /// Whether the host addresses the tensor's memory.
  package var isOnHost: Bool { pointer.pointee.buffer.map { ggml_backend_buffer_is_host($0) } ?? true }

  /// Calls `body`, which fills `count` bytes from `offset` on, with the tensor's memory or with memory that is copied
  /// to it.
  package func withHostBytes(_ offset: Int, count: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows
  {
    if let buffer = pointer.pointee.buffer, ggml_backend_buffer_is_host(buffer), let data = pointer.pointee.data {
      return try body(UnsafeMutableRawBufferPointer(start: data + offset, count: count))
    }
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
    defer { copy.deallocate() }
    try body(copy)
    ggml_backend_tensor_set(pointer, copy.baseAddress, offset, count)
  }

  /// Swaps the contents of two tensors of one type and shape, 16 MB at a time.
  package func exchange(with other: Tensor) {
    precondition(bytes == other.bytes && pointer.pointee.type == other.pointer.pointee.type)
    let part = max(1, min(bytes, 1 << 24))
    let mine = UnsafeMutableRawBufferPointer.allocate(byteCount: part, alignment: 64)
    let theirs = UnsafeMutableRawBufferPointer.allocate(byteCount: part, alignment: 64)
    defer {
      mine.deallocate()
      theirs.deallocate()
    }
    for offset in Swift.stride(from: 0, to: bytes, by: part) {
      let count = min(part, bytes - offset)
      ggml_backend_tensor_get(pointer, mine.baseAddress, offset, count)
      ggml_backend_tensor_get(other.pointer, theirs.baseAddress, offset, count)
      ggml_backend_tensor_set(pointer, theirs.baseAddress, offset, count)
      ggml_backend_tensor_set(other.pointer, mine.baseAddress, offset, count)
    }
  }

  /// Hands out the bytes in order: the tensor's memory where the host can address it, else copies of 16 MB each.
  package func forEachPart(_ take: (UnsafeRawBufferPointer) throws -> Void) throws {
    precondition(ggml_is_contiguous(pointer))
    if isOnHost { return try withHostBytes { try take(UnsafeRawBufferPointer($0)) } }
    let part = min(bytes, 1 << 24)
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, part), alignment: 64)
    defer { copy.deallocate() }
    for offset in Swift.stride(from: 0, to: bytes, by: max(1, part)) {
      let count = min(part, bytes - offset)
      ggml_backend_tensor_get(pointer, copy.baseAddress, offset, count)
      try take(UnsafeRawBufferPointer(rebasing: copy[..<count]))
    }
  }

  /// Copies some of the numbers of a contiguous F32 tensor.
  package func copy(_ numbers: Range<Int>, to target: UnsafeMutableRawBufferPointer) {
    precondition(target.count >= 4 * numbers.count && 4 * numbers.upperBound <= bytes)
    ggml_backend_tensor_get(pointer, target.baseAddress, 4 * numbers.lowerBound, 4 * numbers.count)
  }

  /// Calls `body` with the tensor's memory where the host can address it, with a copy otherwise; `writeBack` copies the
  /// copy back.
  package func withHostBytes<R>(writeBack: Bool = false, _ body: (UnsafeMutableRawBufferPointer) throws -> R) rethrows
    -> R
  {
    if let buffer = pointer.pointee.buffer, ggml_backend_buffer_is_host(buffer), let data = pointer.pointee.data {
      return try body(UnsafeMutableRawBufferPointer(start: data, count: bytes))
    }
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: 64)
    defer { copy.deallocate() }
    ggml_backend_tensor_get(pointer, copy.baseAddress, 0, bytes)
    let result = try body(copy)
    if writeBack { ggml_backend_tensor_set(pointer, copy.baseAddress, 0, bytes) }
    return result
  }
}
