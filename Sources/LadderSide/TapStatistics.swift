import Foundation
import LadderBackbone
import LadderCompute

/// Each tap's mean and deviation per channel, after the weightless RMS norm: what `z` of the design standardises by.
///
/// Measured once, over the first training samples, and saved with the weights; never trained.
package struct TapStatistics: Codable, Sendable, Equatable {
  /// One array of `width` numbers per rung.
  package var means: [[Float]]
  package var deviations: [[Float]]

  /// Means 0 and deviations 1: taps are only normalised.
  package static func identity(rungs: Int, width: Int) -> TapStatistics {
    TapStatistics(
      means: Array(repeating: [Float](repeating: 0, count: width), count: rungs),
      deviations: Array(repeating: [Float](repeating: 1, count: width), count: rungs))
  }

  /// Those of some rungs alone.
  /// - Parameter rungs: places among the rungs at hand, from 0.
  package func selecting(_ rungs: [Int]) -> TapStatistics {
    TapStatistics(means: rungs.map { means[$0] }, deviations: rungs.map { deviations[$0] })
  }

  /// Runs the backbone over samples.
  /// - Parameter tokenLimit: the pass ends once it has seen this many tokens.
  package static func measure(_ samples: [[Int32]], _ forward: ForwardPass, tokenLimit: Int = 8192) throws -> TapStatistics {
    let width = forward.backbone.width, rungs = forward.rungs.count
    let pool = TensorPool(forward.backbone.engine), graph = try Graph(forward.backbone.engine)
    var sums = Array(repeating: [Double](repeating: 0, count: width), count: rungs)
    var squares = sums
    var seen = 0, next = 0
    while next < samples.count, seen < tokenLimit {
      try Cancellation.check()
      var group: [PackedSample] = [], tokens = 0
      while next < samples.count, group.isEmpty || tokens + samples[next].count <= 512, group.count < 64 {
        tokens += samples[next].count
        group.append(PackedSample(tokens: samples[next], lossRows: [samples[next].count - 1]))
        next += 1
      }
      try pool.reset()
      let taps = try (0..<rungs).map { _ in try pool.make(.bfloat16, [width, tokens]) }
      try forward.run(group, taps: taps, final: nil)
      // One rung and some rows at a time: their copies in F32 stay small.
      for (rung, tap) in taps.enumerated() {
        for start in stride(from: 0, to: tokens, by: 512) {
          let rows = start..<min(start + 512, tokens)
          graph.reset()
          let normed = graph.keep(graph.rmsNorm(graph.cast(graph.slice(tap, 1, rows), .float32), 1e-6))
          try graph.compute()
          let values = normed.read()
          sums[rung].withUnsafeMutableBufferPointer { sum in
            squares[rung].withUnsafeMutableBufferPointer { square in
              for row in 0..<rows.count {
                for channel in 0..<width {
                  let value = Double(values[row * width + channel])
                  sum[channel] += value
                  square[channel] += value * value
                }
              }
            }
          }
        }
      }
      seen += tokens
    }
    let count = Double(max(1, seen))
    return TapStatistics(
      means: sums.map { $0.map { Float($0 / count) } },
      deviations: zip(sums, squares).map { zip($0, $1).map { s, q in Float(max(1e-8, q / count - (s / count) * (s / count)).squareRoot()) } })
  }
}
