import CKernels
import CLlama
import LadderCompute

/// BF16 rows to ggml's Q8_0 and back: 8-bit numbers in blocks of 32 with one scale each.
enum Q8 {
  /// Appends `count` numbers, in rows of `width`, a multiple of 32.
  static func append(bfloat16 source: UnsafeRawBufferPointer, count: Int, to target: inout [UInt8]) {
    let wide = floats(source, count)
    let size = ElementType.q8.bytes(count), start = target.count
    target.append(contentsOf: repeatElement(0, count: size))
    target.withUnsafeMutableBytes { bytes in
      _ = ggml_quantize_chunk(GGML_TYPE_Q8_0, wide, bytes.baseAddress.map { $0 + start }, 0, 1, Int64(count), nil)
    }
  }

  /// Calls `body` with the BF16 numbers of `count` quantised ones.
  static func withBFloat16(_ source: UnsafeRawBufferPointer, count: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    var wide = [Float](repeating: 0, count: count)
    ggml_get_type_traits(GGML_TYPE_Q8_0).pointee.to_float?(source.baseAddress, &wide, Int64(count))
    var narrow = [UInt16](repeating: 0, count: count)
    narrow.withUnsafeMutableBytes { bytes in
      ladder_to_bf16(wide, bytes.baseAddress?.assumingMemoryBound(to: UInt16.self), count)
      body(UnsafeRawBufferPointer(bytes))
    }
  }

  private static func floats(_ source: UnsafeRawBufferPointer, _ count: Int) -> [Float] {
    [Float](unsafeUninitializedCapacity: count) { buffer, filled in
      ladder_from_bf16(source.baseAddress?.assumingMemoryBound(to: UInt16.self), buffer.baseAddress, count)
      filled = count
    }
  }
}
