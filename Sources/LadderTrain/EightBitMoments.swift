import Foundation
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
  }

  /// One AdamW step on `values` in place.
  mutating func update(
    _ values: UnsafeMutableBufferPointer<Float>, _ gradients: UnsafeMutableBufferPointer<Float>, _ step: Step
  ) {
    let count = values.count, blocks = firstScale.count
    first.withUnsafeMutableBufferPointer { m in
      second.withUnsafeMutableBufferPointer { v in
        firstScale.withUnsafeMutableBufferPointer { mScale in
          secondScale.withUnsafeMutableBufferPointer { vScale in
            nonisolated(unsafe) let m = m, v = v, mScale = mScale, vScale = vScale, values = values,
              gradients = gradients
            let tasks = min(blocks, 16)
            DispatchQueue.concurrentPerform(iterations: tasks) { task in
              var means = [Float](repeating: 0, count: Self.block), roots = means
              for b in (task * blocks / tasks)..<((task + 1) * blocks / tasks) {
                let start = b * Self.block, n = min(Self.block, count - start)
                var largestMean: Float = 0, largestRoot: Float = 0
                for i in 0..<n {
                  let g = gradients[start + i] * step.clip
                  let mean = step.beta1 * Float(m[start + i]) * mScale[b] + (1 - step.beta1) * g
                  let root = Self.decode(v[start + i]) * vScale[b]
                  let square = step.beta2 * root * root + (1 - step.beta2) * g * g
                  let x = values[start + i]
                  values[start + i] =
                    x * (1 - step.learningRate * step.decay) - step.learningRate * mean * step.correction1
                    / ((square * step.correction2).squareRoot() + step.epsilon)
                  means[i] = mean
                  roots[i] = square.squareRoot()
                  largestMean = max(largestMean, abs(mean))
                  largestRoot = max(largestRoot, roots[i])
                }
                mScale[b] = largestMean / 127
                vScale[b] = largestRoot
                for i in 0..<n {
                  m[start + i] = largestMean > 0 ? Int8((means[i] / mScale[b]).rounded()) : 0
                  v[start + i] = largestRoot > 0 ? Self.encode(roots[i] / largestRoot) : 0
                }
              }
            }
          }
        }
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

  var state: [[Float]] { [first.map(Float.init), firstScale, second.map(Float.init), secondScale] }
  var stateCounts: [Int] { [first.count, firstScale.count, second.count, secondScale.count] }

  mutating func restore(_ state: ArraySlice<[Float]>) {
    let s = Array(state)
    first = s[0].map { Int8($0) }
    firstScale = s[1]
    second = s[2].map { UInt8($0) }
    secondScale = s[3]
  }
}
