import CKernels
import CLlama
import LadderCompute

/// BF16 rows to ggml's Q8_0 and back: 8-bit numbers in blocks of 32 with one scale each.
enum Q8 {
  /// Calls `body` with `count` numbers quantised, a multiple of 32.
  static func with<Result>(
    bfloat16 source: UnsafeRawBufferPointer, count: Int, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result {
    let wide = floats(source, count), size = ElementType.q8.bytes(count)
    let packed = [UInt8](unsafeUninitializedCapacity: size) { buffer, filled in
      _ = ggml_quantize_chunk(GGML_TYPE_Q8_0, wide, buffer.baseAddress, 0, 1, Int64(count), nil)
      filled = size
    }
    return packed.withUnsafeBytes(body)
  }

  /// Calls `body` with the BF16 numbers of `count` quantised ones.
  static func withBFloat16(_ source: UnsafeRawBufferPointer, count: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    let wide = [Float](unsafeUninitializedCapacity: count) { buffer, filled in
      ggml_get_type_traits(GGML_TYPE_Q8_0).pointee.to_float?(source.baseAddress, buffer.baseAddress, Int64(count))
      filled = count
    }
    let narrow = [UInt16](unsafeUninitializedCapacity: count) { buffer, filled in
      ladder_to_bf16(wide, buffer.baseAddress, count)
      filled = count
    }
    narrow.withUnsafeBytes(body)
  }

  private static func floats(_ source: UnsafeRawBufferPointer, _ count: Int) -> [Float] {
    [Float](unsafeUninitializedCapacity: count) { buffer, filled in
      ladder_from_bf16(source.baseAddress?.assumingMemoryBound(to: UInt16.self), buffer.baseAddress, count)
      filled = count
    }
  }
}
