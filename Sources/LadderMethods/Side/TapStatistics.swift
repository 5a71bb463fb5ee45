import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData

/// Each tap's mean and deviation per channel, after the weightless RMS norm: what `z` of the design standardises by.
///
/// Measured once, over the first training samples, and saved with the weights; never trained.
package struct TapStatistics: RungMeasurement, Sendable, Equatable {
  /// One array of `width` numbers per rung.
  package var means: [[Float]]
  package var deviations: [[Float]]

  /// Means 0 and deviations 1: taps are only normalised.
  package static func identity(rungs: Int, width: Int) -> TapStatistics {
    TapStatistics(
      means: Array(repeating: [Float](repeating: 0, count: width), count: rungs),
      deviations: Array(repeating: [Float](repeating: 1, count: width), count: rungs))
  }

  package func selecting(_ rungs: [Int]) -> TapStatistics {
    TapStatistics(means: rungs.map { means[$0] }, deviations: rungs.map { deviations[$0] })
  }

  /// The samples to measure, spread evenly over all: eight or more, until they have 2,048 tokens together, and over
  /// answers 128 rows too; 256 at most. A mean of 2,048 is within 2% of its deviation, and training begins in seconds.
  package static func measured(_ samples: [PackedSample], over rows: SideConfiguration.StatisticsRows)
    -> [PackedSample]
  {
    var tokens = 0, answers = 0, count = 0
    for sample in samples.spread(min(256, samples.count)) {
      if count >= 8, tokens >= 2048, rows != .answers || answers >= 128 { break }
      tokens += sample.tokens.count
      answers += sample.lossRows.count
      count += 1
    }
    return samples.spread(count)
  }

  /// Reads samples' taps, with their final rows: a cache serves none without.
  /// - Parameter rows: which rows count.
  package static func measure(
    _ samples: [PackedSample], _ source: any TapSource, _ backbone: Backbone,
    rows: SideConfiguration.StatisticsRows = .tokens
  ) throws -> TapStatistics {
    let width = backbone.width, rungs = source.rungs.count
    let isOverAnswers = rows == .answers
    let pool = TensorPool(backbone.engine)
    let graph = try Graph(backbone.engine)
    var sums = Array(repeating: [Double](repeating: 0, count: width), count: rungs)
    var squares = sums
    var counted = 0
    var next = 0
    while next < samples.count {
      try Cancellation.check()
      var group: [PackedSample] = []
      var tokens = 0
      while next < samples.count, group.isEmpty || tokens + samples[next].tokens.count <= 512, group.count < 64 {
        tokens += samples[next].tokens.count
        group.append(samples[next])
        next += 1
      }
      try pool.reset()
      let taps = try (0..<rungs).map { _ in try pool.make(.bfloat16, [width, tokens]) }
      let answers = try MicroBatch(group, pool: pool).lossRows
      try source.run(group, taps: taps, final: try pool.make(.float32, [width, answers.count]))
      let chosen = isOverAnswers ? answers : nil
      let count = chosen?.count ?? tokens
      // One rung and some rows at a time: their copies in F32 stay small.
      for (rung, tap) in taps.enumerated() {
        for start in stride(from: 0, to: count, by: 512) {
          let part = start..<min(start + 512, count)
          graph.reset()
          let states =
            chosen.map { graph.rows(of: tap, graph.slice($0, 0, part)) }
            ?? graph.cast(graph.slice(tap, 1, part), .float32)
          let normed = graph.keep(graph.rmsNorm(states, 1e-6))
          try graph.compute()
          let values = normed.read()
          sums[rung].withUnsafeMutableBufferPointer { sum in
            squares[rung].withUnsafeMutableBufferPointer { square in
              for row in 0..<part.count {
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
      counted += count
    }
    let count = Double(max(1, counted))
    return TapStatistics(
      means: sums.map { $0.map { Float($0 / count) } },
      deviations: zip(sums, squares).map {
        zip($0, $1).map { sum, square in
          deviation(mean: sum / count, square: square / count, isFloored: isOverAnswers)
        }
      })
  }

  /// Over a few rows that are alike, what spread a channel has may be the rounding of its BF16 values: no less than
  /// that counts.
  private static func deviation(mean: Double, square: Double, isFloored: Bool) -> Float {
    Float(max(isFloored ? max(1e-3, abs(mean) / 256) : 1e-8, max(0, square - mean * mean).squareRoot()))
  }
}

extension CachedTaps {
  /// Each tap's mean and deviation, kept with the cache so that every run that reads it standardises alike.
  package func statistics(_ samples: [PackedSample], over rows: SideConfiguration.StatisticsRows, of backbone: Backbone)
    throws -> TapStatistics
  {
    let name = rows == .answers ? "statistics-answers" : "statistics"
    if let stored: TapStatistics = cache?.measurement(name, over: samples) { return stored }
    let measured = try withoutKeeping { try TapStatistics.measure(samples, self, backbone, rows: rows) }
    cache?.store(measured, name, over: samples)
    return measured
  }
}
