import CKernels
import Foundation
import LadderCompute
import LadderCore

/// What a pass over the whole vocabulary gathers about one row, tile by tile: the exact sum of its softmax, and the
/// entries that its gradient is worked over.
///
/// Entries of at least a share θ of the sum are gathered as they are. The others, two or three percent of a row between
/// a quarter of a million of them, are drawn: walking over them in order, one is taken each time another θ of mass has
/// gone by, and stands for that θ. Each is taken with a probability in proportion to its own mass, so the expected
/// gradient is the exact one, and no mass is left out (systematic sampling; Madow 1949). The random offset comes from
/// the run's seed and the row's place in its step.
package struct RowSurvey {
  /// One entry of the vocabulary.
  package struct Entry {
    package var id: Int32
    /// Its logit.
    package var logit: Float
    /// ln of the mass that it stands for, on the logits' scale: its logit, or more where it was drawn.
    package var weight: Float
    package var isDrawn: Bool { weight > logit }
  }

  /// θ where a row's small entries are not too many: 2⁻¹⁵. The error that drawing makes in a row's gradient is
  /// √(θ·m)·‖W_v‖ for a mass m that is drawn from, some 0.05% of the gradient.
  package static let share: Float = 0x1p-15
  /// The most entries that each of so many rows ends with; while they are gone over, twice as many. A row that is flat
  /// over the vocabulary gets a larger θ where there are many rows.
  package static func limit(rows: Int) -> Int { max(2048, 512 * 2048 / max(1, rows)) }

  package let target: Int32
  private let limit: Int
  /// Σ exp(logit − maximum) over what was seen.
  package private(set) var maximum = -Float.infinity
  package private(set) var sum = 0.0
  package private(set) var entries: [Entry] = []
  private var share = Self.share
  /// Mass that has gone by since an entry was last drawn, in units of the mass that one stands for.
  private var phase: Float
  private var random: SeededRandom

  /// - Parameters:
  ///   - limit: the most entries that the row ends with.
  ///   - random: the stream of its random offsets.
  init(target: Int32, limit: Int, random: SeededRandom) {
    self.target = target
    self.limit = limit
    self.random = random
    phase = self.random.uniform()
  }

  /// Takes in the logits of the entries `first`, `first` + 1, ….
  mutating func take(_ logits: UnsafeMutableBufferPointer<Float>, first: Int) {
    guard let base = logits.baseAddress, !logits.isEmpty else { return }
    raise(to: ladder_row_maximum(base, Int32(logits.count)))
    withUnsafeTemporaryAllocation(of: Float.self, capacity: (logits.count + Self.group - 1) / Self.group) { sums in
      if let sums = sums.baseAddress {
        let total = ladder_row_sums(base, Int32(logits.count), maximum, sums)
        take(first: first, count: logits.count, logits: base, stride: 1, sums: sums, sumStride: 1, total: total)
      }
    }
  }

  /// Entries whose sum is formed at once.
  static let group = 16

  /// From here on sums are relative to this logit, if it is larger than those seen so far.
  mutating func raise(to largest: Float) {
    guard largest > maximum else { return }
    sum *= Double(expf(maximum - largest))
    maximum = largest
  }

  /// Takes in `count` entries from `first` on, none of whose logits is above the maximum.
  /// - Parameters:
  ///   - logits: theirs, `stride` apart.
  ///   - sums: Σ exp(logit − maximum) of each group of them, `sumStride` apart; `total` over all.
  mutating func take(
    first: Int, count: Int, logits: UnsafePointer<Float>, stride: Int, sums: UnsafePointer<Float>, sumStride: Int,
    total: Float
  ) {
    let groups = (count + Self.group - 1) / Self.group
    let total = Double(total)
    defer { sum += total }
    // The mass that counts is that of the whole row: until some of it was seen, that of this tile.
    // Beside a maximum that has just risen far, what was seen may be next to nothing.
    let scale = max(sum, total)
    guard scale > 0, scale.isFinite else { return }
    let quantum = share * Float(scale)
    let perQuantum = 1 / quantum
    let drawnWeight = log(quantum) + maximum
    let targetPlace = Int(target) - first
    let targetGroup = (0..<count).contains(targetPlace) ? targetPlace / Self.group : -1
    for group in 0..<groups {
      let mass = sums[group * sumStride]
      // Most groups hold neither an entry that counts alone nor the next one to be drawn.
      if group != targetGroup, phase + mass * perQuantum < 1 {
        phase += mass * perQuantum
        continue
      }
      for place in (group * Self.group)..<min(count, (group + 1) * Self.group) {
        let logit = logits[place * stride]
        let mass = expf(logit - maximum)
        if mass >= quantum || place == targetPlace {
          entries.append(Entry(id: Int32(first + place), logit: logit, weight: logit))
          continue
        }
        phase += mass * perQuantum
        if phase >= 1 {
          phase -= 1
          entries.append(Entry(id: Int32(first + place), logit: logit, weight: max(drawnWeight, logit.nextUp)))
        }
      }
    }
    if entries.count > 2 * limit { thin(of: sum + total) }
  }

  /// Draws once more from the entries that are small beside the whole sum, as the first tiles were gone over beside
  /// less.
  mutating func finish() { if sum.isFinite, sum > 0 { thin(of: sum) } }

  private mutating func thin(of sum: Double) {
    while true {
      let quantum = share * Float(sum)
      let weight = log(quantum) + maximum
      var kept = 0
      var phase = random.uniform()
      for place in entries.indices {
        var entry = entries[place]
        let mass = expf(entry.weight - maximum)
        if mass < quantum, entry.id != target {
          phase += mass / quantum
          if phase < 1 { continue }
          phase -= 1
          entry.weight = max(weight, entry.logit.nextUp)
        }
        entries[kept] = entry
        kept += 1
      }
      entries.removeLast(entries.count - kept)
      if kept <= limit { return }
      share *= 2
    }
  }
}
