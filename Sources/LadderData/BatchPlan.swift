import LadderCore

/// The order of an epoch's batches, shuffled by seed, with samples of like length together.
///
/// Batches are drawn once a run and visited in a new order each epoch: what the backbone computes for a batch is then
/// the same to the last bit in every epoch, cached or not.
package struct BatchPlan: Sendable {
  /// Indices of each batch's samples.
  package let batches: [[Int]]

  /// - Parameter lengths: tokens of each sample.
  package init(lengths: [Int], batchSize: Int, seed: UInt64, epoch: Int) {
    var random = SeededRandom(seed: seed, 2)
    let order = lengths.indices.shuffled(using: &random)
    let window = batchSize * 32
    var batches: [[Int]] = []
    for start in stride(from: 0, to: order.count, by: window) {
      let sorted = order[start..<min(start + window, order.count)].sorted { (lengths[$0], $0) < (lengths[$1], $1) }
      for first in stride(from: 0, to: sorted.count, by: batchSize) {
        batches.append(Array(sorted[first..<min(first + batchSize, sorted.count)]))
      }
    }
    var ofEpoch = SeededRandom(seed: seed, 2, epoch)
    batches.shuffle(using: &ofEpoch)
    self.batches = batches
  }

  /// Batches of an epoch.
  package static func batches(of samples: Int, size: Int) -> Int {
    let window = size * 32, rest = samples % window
    return samples / window * 32 + (rest + size - 1) / size
  }

  /// All samples in micro-batches of like lengths, which fill the engine's calls best.
  package static func byLength(_ lengths: [Int], tokens: Int) -> [[Int]] {
    pack(lengths.indices.sorted { (lengths[$0], $0) < (lengths[$1], $1) }, lengths: lengths, tokens: tokens)
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
