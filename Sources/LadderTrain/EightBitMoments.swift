import Foundation
import LadderBackbone
import LadderCompute

/// AdamW's two moments in 8 bits each, in blocks of 256 numbers with one scale (after Dettmers et al. 2022, "8-bit
/// Optimizers via Block-wise Quantization").
///
/// The first moment is linear in its block's largest. Of the second its root is kept, in steps of a sixteenth of an
/// octave over sixteen octaves: a small one must not become zero, or its parameter would leap.
struct EightBitMoments {
  static let block = 256

  private(set) var first: [Int8]
  private(set) var firstScale: [Float]
  private(set) var second: [UInt8]
  private(set) var secondScale: [Float]

  init(count: Int) {
    let blocks = (count + Self.block - 1) / Self.block
    first = [Int8](repeating: 0, count: count)
    second = [UInt8](repeating: 0, count: count)
    firstScale = [Float](repeating: 0, count: blocks)
    secondScale = [Float](repeating: 0, count: blocks)
  }

  struct Step {
    var learningRate: Float
    var beta1: Float
    var beta2: Float
    var epsilon: Float
    var decay: Float
    /// 1 / (1 − βᵗ) of each moment, and the factor that clips the gradient.
    var correction1: Float
    var correction2: Float
    var clip: Float

    /// A parameter after its step: x − η·(decay·x + m̂ / (√v̂ + ε)), with the bias-corrected moments m̂ and v̂.
    @inline(__always)
    func moved(_ x: Float, mean: Float, square: Float) -> Float {
      x * (1 - learningRate * decay) - learningRate * mean * correction1
        / ((square * correction2).squareRoot() + epsilon)
    }
  }

  /// One AdamW step on `values` in place.
  mutating func update(
    _ values: UnsafeMutableBufferPointer<Float>, _ gradients: UnsafeMutableBufferPointer<Float>, _ step: Step,
    on host: HostTasks
  ) throws {
    let blocks = firstScale.count
    try withCodes { codes in
      let tasks = min(blocks, 16)
      try host.run(tasks) { task in
        withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * Self.block) { scratch in
          let moments = BlockMoments(scratch)
          for block in (task * blocks / tasks)..<((task + 1) * blocks / tasks) {
            let start = block * Self.block
            let numbers = start..<min(start + Self.block, values.count)
            let largest = codes.advance(block, numbers, values, gradients, step, moments)
            codes.store(block, numbers, moments, largest)
          }
        }
      }
    }
  }

  /// Calls `body` with the memory of what is kept.
  private mutating func withCodes(_ body: (Codes) throws -> Void) rethrows {
    try first.withUnsafeMutableBufferPointer { first in
      try firstScale.withUnsafeMutableBufferPointer { firstScale in
        try second.withUnsafeMutableBufferPointer { second in
          try secondScale.withUnsafeMutableBufferPointer { secondScale in
            try body(Codes(first: first, firstScale: firstScale, second: second, secondScale: secondScale))
          }
        }
      }
    }
  }

  /// The new moments of one block's numbers, before they are rounded.
  private struct BlockMoments {
    let means: UnsafeMutableBufferPointer<Float>
    /// Roots of the second moments.
    let roots: UnsafeMutableBufferPointer<Float>

    init(_ scratch: UnsafeMutableBufferPointer<Float>) {
      means = UnsafeMutableBufferPointer(rebasing: scratch[..<EightBitMoments.block])
      roots = UnsafeMutableBufferPointer(rebasing: scratch[EightBitMoments.block...])
    }
  }

  /// The memory of the codes and scales while a step goes over them.
  private struct Codes {
    let first: UnsafeMutableBufferPointer<Int8>
    let firstScale: UnsafeMutableBufferPointer<Float>
    let second: UnsafeMutableBufferPointer<UInt8>
    let secondScale: UnsafeMutableBufferPointer<Float>

    /// Steps the parameters `numbers`, those of one block, and fills in their new moments.
    /// - Returns: the largest of each moment.
    @inline(__always)
    func advance(
      _ block: Int, _ numbers: Range<Int>, _ values: UnsafeMutableBufferPointer<Float>,
      _ gradients: UnsafeMutableBufferPointer<Float>, _ step: Step, _ moments: BlockMoments
    ) -> (mean: Float, root: Float) {
      var largestMean: Float = 0, largestRoot: Float = 0
      for number in numbers {
        let gradient = gradients[number] * step.clip
        let oldRoot = EightBitMoments.decode(second[number]) * secondScale[block]
        let mean = step.beta1 * Float(first[number]) * firstScale[block] + (1 - step.beta1) * gradient
        let square = step.beta2 * oldRoot * oldRoot + (1 - step.beta2) * gradient * gradient
        let root = square.squareRoot()
        values[number] = step.moved(values[number], mean: mean, square: square)
        moments.means[number - numbers.lowerBound] = mean
        moments.roots[number - numbers.lowerBound] = root
        largestMean = max(largestMean, abs(mean))
        largestRoot = max(largestRoot, root)
      }
      return (largestMean, largestRoot)
    }

    /// Rounds a block's moments to codes.
    @inline(__always)
    func store(_ block: Int, _ numbers: Range<Int>, _ moments: BlockMoments, _ largest: (mean: Float, root: Float)) {
      let meanStep = largest.mean / 127
      firstScale[block] = meanStep
      secondScale[block] = largest.root
      for number in numbers {
        let mean = moments.means[number - numbers.lowerBound]
        let root = moments.roots[number - numbers.lowerBound]
        // A step may be zero, or far from a 127th, where the largest is next to nothing.
        first[number] = meanStep > 0 ? Int8(min(127, max(-127, (mean / meanStep).rounded()))) : 0
        second[number] = largest.root > 0 ? EightBitMoments.encode(root / largest.root) : 0
      }
    }
  }

  /// A share of the block's largest in (0, 1] to its code: the float's own exponent and top four bits of mantissa.
  static func encode(_ share: Float) -> UInt8 {
    if share <= 0 { return 0 }
    let below = (Float(1).bitPattern &- min(share, 1).bitPattern) >> 19
    return UInt8(255 - min(254, below))
  }

  static func decode(_ code: UInt8) -> Float {
    if code == 0 { return 0 }
    if code == 255 { return 1 }
    // The middle of the step.
    return Float(bitPattern: Float(1).bitPattern &- UInt32(255 - code) << 19 &- 1 << 18)
  }

  // MARK: - State

  /// As they are kept, a byte for each number of each moment.
  var state: [Safetensors.Entry] {
    [
      .init(shape: [first.count], element: .int8) { [first] take in try first.withUnsafeBytes { try take($0) } },
      .init(shape: [firstScale.count], values: firstScale),
      .init(shape: [second.count], element: .uint8) { [second] take in try second.withUnsafeBytes { try take($0) } },
      .init(shape: [secondScale.count], values: secondScale),
    ]
  }

  /// Older checkpoints hold the codes as F32 numbers.
  mutating func restore(_ state: ArraySlice<Safetensors.Entry>) throws {
    let entries = Array(state)
    first = try entries[0].values().map { Int8(exactly: $0) ?? 0 }
    firstScale = try entries[1].values()
    second = try entries[2].values().map { UInt8(exactly: $0) ?? 0 }
    secondScale = try entries[3].values()
  }
}
