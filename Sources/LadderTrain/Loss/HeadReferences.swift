import Foundation
import LadderBackbone
import LadderCompute
import LadderData

/// What stands for the whole vocabulary in a row that was worked exactly once: its likeliest entries, and one entry for
/// the rest.
///
/// The rest's entry has a weight row u and a bias b of its own: its logit b + u·x is ln of the rest's mass, exact where
/// the reference was taken and right to first order in the change of the head's input x from there.
struct RowReference {
  /// The rest's weight row in BF16, [width].
  var weights: [UInt16]
  var bias: Float
  /// Ascending; the row's target is among them or among the common entries.
  var ids: [Int32]
}

/// The references of samples' loss rows, kept beside the activations that they belong to:
///
///     DIR/KEY/head-COMMON, head-COMMON.index      entries as of any cache; COMMON tells the common entries apart
///
/// A sample's reference is stored once and never changes, so that a run that is stopped and goes on reads what it read
/// before.
package final class HeadReferences {
  /// The most entries that a row keeps of its own.
  static let limit = 256
  /// The mass of the rest at which a row keeps no more.
  static let rest: Float = 0x1p-9
  /// The most common entries: those that every row is compared with besides.
  static let commonLimit = 1024

  let common: [Int32]
  let width: Int
  private let records: KeyedRecords
  private let cache: ActivationCache
  /// Whether a row's reference may be stored.
  package var stores: Bool { records.isWritable && cache.stopped == nil }

  /// - Parameter common: ascending ids.
  init(folder: String, width: Int, common: [Int32], cache: ActivationCache, writes: Bool) throws {
    self.common = common
    self.width = width
    self.cache = cache
    var sum = Checksum()
    common.forEach { sum.mix(UInt64($0)) }
    let path = folder + "/head-" + String(format: "%016llx", sum.value)
    records = try KeyedRecords(data: path, index: path + ".index", writes: writes)
  }

  /// The samples' most frequent targets, ascending: what training moves most is looked at in every row.
  package static func commonEntries(_ samples: [EncodedSample]) -> [Int32] {
    var counts: [Int32: Int] = [:]
    for target in samples.lazy.flatMap(\.targets) { counts[target, default: 0] += 1 }
    return counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(commonLimit).map(\.key).sorted()
  }

  /// Whether every one of the samples has its references.
  package func hold(_ samples: [EncodedSample]) -> Bool {
    samples.allSatisfy { records.holds(SampleKey(withTargets: $0)) }
  }

  /// The samples' rows, one after another; nil where one is missing or damaged.
  func read(_ samples: [EncodedSample]) -> [RowReference]? {
    var rows: [RowReference] = []
    for sample in samples {
      guard let (record, entry) = records.read(SampleKey(withTargets: sample)), record.rows == sample.targets.count
      else { return nil }
      defer { records.release(entry) }
      var place = 0
      for _ in 0..<record.rows {
        guard place + 8 + 2 * width <= entry.count else { return nil }
        let count = Int(entry.loadUnaligned(fromByteOffset: place, as: UInt32.self))
        let bias = entry.loadUnaligned(fromByteOffset: place + 4, as: Float.self)
        let weights = Self.numbers(UInt16.self, entry, place + 8, width)
        guard place + 8 + 2 * width + 4 * count <= entry.count else { return nil }
        rows.append(
          RowReference(weights: weights, bias: bias, ids: Self.numbers(Int32.self, entry, place + 8 + 2 * width, count))
        )
        place += 8 + 2 * width + 4 * count
      }
    }
    return rows
  }

  /// Stores the rows of samples that have none yet. Never fails a run: see `ActivationCache.stopped`.
  func write(_ samples: [EncodedSample], _ rows: [RowReference]) {
    var first = 0
    for sample in samples {
      let own = rows[first..<(first + sample.targets.count)]
      let key = SampleKey(withTargets: sample)
      first += sample.targets.count
      guard stores else { return }
      if records.holds(key) { continue }
      var entry: [UInt8] = []
      entry.reserveCapacity(own.count * (8 + 2 * width + 4 * Self.limit))
      for row in own {
        withUnsafeBytes(of: UInt32(row.ids.count)) { entry.append(contentsOf: $0) }
        withUnsafeBytes(of: row.bias) { entry.append(contentsOf: $0) }
        row.weights.withUnsafeBytes { entry.append(contentsOf: $0) }
        row.ids.withUnsafeBytes { entry.append(contentsOf: $0) }
      }
      guard
        cache.store({ records.append(key, entry, tokens: sample.tokens.count, rows: own.count) }, bytes: entry.count)
      else { return }
    }
  }

  private static func numbers<Number>(
    _ type: Number.Type, _ bytes: UnsafeRawBufferPointer, _ start: Int, _ count: Int
  ) -> [Number] {
    [Number](unsafeUninitializedCapacity: count) { buffer, filled in
      UnsafeMutableRawBufferPointer(buffer).copyMemory(
        from: UnsafeRawBufferPointer(rebasing: bytes[start..<(start + count * MemoryLayout<Number>.size)]))
      filled = count
    }
  }
}

extension ActivationCache {
  /// Where the head's references beside these common entries are kept, stored where this process may write to the
  /// cache.
  func references(common: [Int32]) throws -> HeadReferences {
    try HeadReferences(folder: path, width: description.width, common: common, cache: self, writes: isWritable)
  }
}
