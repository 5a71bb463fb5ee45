import LadderCompute

/// The order of an epoch's batches: shuffled by seed, with samples of like length together.
package struct BatchPlan: Sendable {
  /// Indices of each batch's samples.
  package let batches: [[Int]]

  /// - Parameter lengths: tokens of each sample.
  package init(lengths: [Int], batchSize: Int, seed: UInt64, epoch: Int) {
    var random = SeededRandom(seed: seed, 2, epoch)
    let order = lengths.indices.shuffled(using: &random)
    let window = batchSize * 32
    var batches: [[Int]] = []
    for start in stride(from: 0, to: order.count, by: window) {
      let sorted = order[start..<min(start + window, order.count)].sorted { (lengths[$0], $0) < (lengths[$1], $1) }
      for first in stride(from: 0, to: sorted.count, by: batchSize) {
        batches.append(Array(sorted[first..<min(first + batchSize, sorted.count)]))
      }
    }
    batches.shuffle(using: &random)
    self.batches = batches
  }

  /// Cuts a batch into micro-batches of at most `tokens` tokens, each of one sample or more.
  package static func pack(_ batch: [Int], lengths: [Int], tokens: Int) -> [[Int]] {
    var result: [[Int]] = [], current: [Int] = [], size = 0
    for index in batch {
      if !current.isEmpty, size + lengths[index] > tokens {
        result.append(current)
        current = []
        size = 0
      }
      current.append(index)
      size += lengths[index]
    }
    if !current.isEmpty { result.append(current) }
    return result
  }
}
