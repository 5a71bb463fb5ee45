import LadderCore

extension SeededRandom {
  /// Fills a matrix with dropout factors: 0 with probability `rate` (to 1/256), else 1 / (1 − rate) so that the mean is
  /// 1.
  ///
  /// Each row is a stream of its own, so that any number of threads draws the same.
  package mutating func fillDropoutMask(_ mask: Tensor, rate: Float, on tasks: HostTasks) throws {
    let threshold = UInt8(min(255, max(0, (rate * 256).rounded())))
    let kept = 1 / (1 - Float(threshold) / 256)
    let width = mask[0], rows = mask[1]
    let seed = next()
    try mask.withHostBytes(0, count: mask.bytes) { bytes in
      let values = bytes.bindMemory(to: Float.self)
      let span = 64
      try tasks.run((rows + span - 1) / span) { part in
        for row in (part * span)..<min(rows, (part + 1) * span) {
          var random = SeededRandom(seed: seed, row)
          var place = row * width
          let end = place + width
          while place < end {
            var word = random.next()
            for _ in 0..<min(8, end - place) {
              values[place] = UInt8(truncatingIfNeeded: word) < threshold ? 0 : kept
              word >>= 8
              place += 1
            }
          }
        }
      }
    }
  }
}
