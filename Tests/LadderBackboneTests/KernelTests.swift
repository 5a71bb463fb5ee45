import CKernels
import CLlama
import Foundation
import LadderCompute
import LadderCore
import Testing

/// The host's kernels, in the variant of this processor, against plain loops in double precision.
struct KernelTests {
  private func numbers(_ count: Int, seed: UInt64, scale: Float = 1) -> [Float] {
    var random = SeededRandom(seed: seed)
    return (0..<count).map { _ in random.normal() * scale }
  }

  /// As ggml rounds, infinities, NaNs and the smallest numbers too.
  @Test func bfloat16IsGgmls() {
    var random = SeededRandom(seed: 3)
    let special: [UInt32] = [
      0, 1, 0x8000_0001, 0x7F80_0000, 0xFF80_0000, 0x7F80_0001, 0x7FC0_0000, 0x3F80_8000, 0x3F81_8000,
    ]
    let numbers = (special + (0..<4001).map { _ in UInt32(truncatingIfNeeded: random.next()) }).map(
      Float.init(bitPattern:))
    var own = [UInt16](repeating: 0, count: numbers.count),
      expected = [ggml_bf16_t](repeating: .init(), count: own.count)
    ladder_to_bf16(numbers, &own, numbers.count)
    ggml_fp32_to_bf16_row_ref(numbers, &expected, Int64(numbers.count))
    #expect(own == expected.map(\.bits))
    var back = [Float](repeating: 0, count: own.count), wide = back
    ladder_from_bf16(own, &back, own.count)
    ggml_bf16_to_fp32_row(expected, &wide, Int64(own.count))
    #expect(back.map(\.bitPattern) == wide.map(\.bitPattern))
  }

  /// F32 sums over a few hundred products: 1e-5 of their size.
  @Test(arguments: [1, 5, 23], [64, 300]) func panelProducts(_ entries: Int, _ width: Int) {
    let wide = Int(ladder_panel_rows()), stride = 2 * wide
    guard wide > 0 else { return }
    let weights = numbers(entries * width, seed: 1), panel = numbers(width * wide, seed: 2)
    var out = [Float](repeating: 7, count: entries * stride)
    ladder_panel_products(weights, Int32(entries), Int32(width), panel, &out, stride)
    for entry in 0..<entries {
      for row in 0..<wide {
        var expected = 0.0
        for k in 0..<width { expected += Double(weights[entry * width + k]) * Double(panel[k * wide + row]) }
        #expect(abs(Double(out[entry * stride + row]) - expected) < 1e-4)
      }
      #expect(out[entry * stride + wide] == 7, "what lies beside the panel is left alone")
    }
  }

  @Test func panelMaximaAndSums() {
    let wide = Int(ladder_panel_rows()), entries = 37, groups = 3
    guard wide > 0 else { return }
    let logits = numbers(entries * wide, seed: 3, scale: 20)
    var maxima = [Float](repeating: 0, count: wide), sums = [Float](repeating: 0, count: groups * wide), totals = maxima
    ladder_panel_maxima(logits, Int32(entries), wide, &maxima)
    ladder_panel_sums(logits, Int32(entries), wide, maxima, &sums, &totals)
    for row in 0..<wide {
      let own = (0..<entries).map { Double(logits[$0 * wide + row]) }, most = own.max() ?? 0
      #expect(Double(maxima[row]) == most)
      for group in 0..<groups {
        let part = own[(16 * group)..<min(entries, 16 * group + 16)].reduce(0.0) { $0 + exp($1 - most) }
        #expect(abs(Double(sums[group * wide + row]) - part) < 2e-6 * part + 1e-36)
      }
      #expect(abs(Double(totals[row]) - own.reduce(0.0) { $0 + exp($1 - most) }) < 1e-5)
    }
  }

  @Test func panelCurve() {
    let wide = Int(ladder_panel_rows())
    guard wide > 0 else { return }
    let products = numbers(5 * wide, seed: 4, scale: 40)
    var capped = products, scaled = products
    ladder_panel_curve(&capped, 5, wide, 1 / 30, 30)
    ladder_panel_curve(&scaled, 5, wide, 0, 0.25)
    for (i, z) in products.enumerated() {
      #expect(abs(Double(capped[i]) - 30 * tanh(Double(z) / 30)) < 3e-5)
      #expect(scaled[i] == 0.25 * z)
    }
  }

  @Test func sumsOfRows() {
    let a = numbers(203, seed: 5), b = numbers(203, seed: 6)
    let expected = zip(a, b).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
    #expect(abs(Double(ladder_dot(a, b, 203)) - expected) < 1e-4)
    var target = b
    ladder_add_scaled(0.5, a, &target, 203)
    for i in a.indices { #expect(abs(target[i] - (b[i] + 0.5 * a[i])) < 1e-6) }
  }

  /// The same numbers as ggml's own.
  @Test func quantisedRows() {
    let values = numbers(320, seed: 7)
    for type in [GGML_TYPE_Q8_0, GGML_TYPE_Q4_0] {
      var row = [UInt8](repeating: 0, count: ggml_row_size(type, 320)), own = [Float](repeating: 0, count: 320),
        ggml = own
      ggml_quantize_chunk(type, values, &row, 0, 1, 320, nil)
      if type == GGML_TYPE_Q8_0 {
        ladder_dequantise_q8_0(row, &own, 320)
      } else {
        ladder_dequantise_q4_0(row, &own, 320)
      }
      ggml_get_type_traits(type).pointee.to_float?(row, &ggml, 320)
      #expect(own == ggml)
    }
  }

  /// eˣ and tanh of single numbers, within the errors that are stated.
  @Test func exponentialAndTangent() {
    for x in stride(from: Float(-86.5), to: 87, by: 0.37) {
      var tangent = x / 10
      let exponential = ladder_row_sum([x], 1, 0)
      ladder_row_curve(&tangent, 1, 1, 1)
      #expect(abs(Double(exponential) - exp(Double(x))) < 3e-7 * exp(Double(x)))
      #expect(abs(Double(tangent) - tanh(Double(x / 10))) < 3e-7)
    }
    #expect(ladder_row_sum([-1000], 1, 0) < 2e-38)
  }

  /// Rows of any length, also shorter than a vector.
  @Test func rowsOfLogits() {
    for count in [1, 3, 8, 16, 37, 1000] {
      let values = numbers(count, seed: UInt64(count)), most = values.max() ?? 0
      #expect(ladder_row_maximum(values, Int32(count)) == most)
      let sum = values.reduce(0.0) { (sum: Double, x: Float) in sum + exp(Double(x - most)) }
      #expect(abs(Double(ladder_row_sum(values, Int32(count), most)) - sum) < 1e-5 * sum)
      var groups = [Float](repeating: 0, count: (count + 15) / 16)
      #expect(abs(Double(ladder_row_sums(values, Int32(count), most, &groups)) - sum) < 1e-5 * sum)
      for (group, own) in groups.enumerated() {
        let part = values[(16 * group)..<min(count, 16 * group + 16)].reduce(0) { $0 + exp(Double($1 - most)) }
        #expect(abs(Double(own) - part) < 1e-5 * part + 1e-30)
      }
      var bent = values
      ladder_row_curve(&bent, Int32(count), 0.1, 30)
      for (y, x) in zip(bent, values) { #expect(abs(Double(y) - 30 * tanh(0.1 * Double(x))) < 1e-5) }
    }
  }
}
