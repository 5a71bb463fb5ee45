import CKernels
import CLlama
import LadderCompute

/// Single rows of the head, dequantised on the host.
struct HeadRows {
  private let source: UnsafeRawPointer
  private let stride: Int
  private let width: Int
  private let type: ggml_type
  private let convert: ggml_to_float_t?

  /// - Parameter source: the head's weights, in the host's memory as long as this is used.
  init(_ head: Head, _ source: UnsafeRawPointer) {
    self.source = source
    stride = head.weight.stride(1)
    width = head.width
    type = head.weight.pointer.pointee.type
    convert = ggml_get_type_traits(type).pointee.to_float
  }

  /// Fills `target` with an entry's `width` numbers.
  func read(_ entry: Int, into target: UnsafeMutablePointer<Float>) {
    let row = source + entry * stride
    if type == GGML_TYPE_Q8_0 {
      ladder_dequantise_q8_0(row, target, Int32(width))
    } else if type == GGML_TYPE_Q4_0 {
      ladder_dequantise_q4_0(row, target, Int32(width))
    } else if let convert {
      convert(row, target, Int64(width))
    } else {
      UnsafeMutableRawPointer(target).copyMemory(from: row, byteCount: 4 * width)
    }
  }
}
