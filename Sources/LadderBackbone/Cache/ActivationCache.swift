import Foundation
import LadderCompute
import LadderCore
import LadderData

/// What the frozen backbone handed out for each sample, kept on disk: later epochs and later runs read it and never run
/// the backbone.
///
///     DIR/KEY/cache.json         what it belongs to: backbone, rungs, element type, and the head's own description
///     DIR/KEY/activations        entries, one after another: taps rung by rung, then, where they are kept, the final
///                                rows in F32
///     DIR/KEY/index              64 bytes an entry, written after the entry itself
///     DIR/KEY/statistics-N.json  the taps' means and deviations over a set of samples; statistics-answers-N.json,
///                                over their answers
///
/// An entry counts once its index record is whole, and is used once its checksum holds: a process that is killed at any
/// moment leaves no entry that is read by half. One process writes at a time; others read. What a cache of more rungs
/// in the same folder holds is read from there: fill one with all rungs, and every choice of them is free.
package final class ActivationCache: @unchecked Sendable {
  package let path: String
  package let description: CacheDescription
  /// Bytes that the whole of DIR may take; nil sets no limit.
  package let limit: Int?
  /// Why nothing more is stored, once that is so.
  package private(set) var stopped: String?

  private let records: KeyedRecords
  private var totalBytes = 0
  private var wider: [WiderCache] = []

  /// A cache that holds more rungs of the same backbone in the same format.
  private struct WiderCache {
    let cache: ActivationCache
    /// Where among its rungs those of the narrower one are.
    let places: [Int]
  }

  /// Opens or makes the cache of one backbone, tap set and format in `directory`.
  /// - Throws: `inputOutput` where the folder cannot be made; `data` where it belongs to something else.
  /// - Parameter countsShards: whether shards beside it count for the limit: those that are merged into it do not.
  package convenience init(
    directory: String, description: CacheDescription, limit: Int? = nil, countsShards: Bool = true
  ) throws {
    try self.init(
      path: directory + "/" + description.folderName, description: description, limit: limit, writes: true)
    totalBytes =
      CacheFolder.bytes(of: directory) - (countsShards ? 0 : CacheFolder.bytes(of: ShardFolder.root(directory)))
    wider = CacheFolder.descriptions(in: directory).compactMap { path, other in
      var narrowed = other
      narrowed.rungs = description.rungs
      if !description.holdsFinal { narrowed.holdsFinal = false }
      let places = description.rungs.compactMap(other.rungs.firstIndex)
      guard narrowed.isSame(as: description), !other.isSame(as: description),
        places.count == description.rungs.count,
        let cache = try? Self(path: path, description: other, limit: nil, writes: false)
      else { return nil }
      return WiderCache(cache: cache, places: places)
    }
  }

  /// A shard's cache, in a folder of its own.
  package convenience init(shard path: String, description: CacheDescription, limit: Int?, writes: Bool = true) throws {
    try self.init(path: path, description: description, limit: limit, writes: writes)
    totalBytes = CacheFolder.bytes(of: path)
  }

  private init(path: String, description: CacheDescription, limit: Int?, writes: Bool) throws {
    self.description = description
    self.limit = limit
    self.path = path
    try DurableFile.makeFolder(path)
    let manifest = CacheFolder.descriptionPath(path)
    if FileManager.default.fileExists(atPath: manifest) {
      guard CacheFolder.description(of: path)?.isSame(as: description) == true else {
        throw LadderError(
          .data, "\(path) belongs to another backbone or version; remove the folder, or pass another `cache`")
      }
    } else {
      try DurableFile.write(manifest, json: description)
    }
    records = try KeyedRecords(data: path + "/activations", index: path + "/index", writes: writes)
    if records.isWritable { DurableFile.sweep(manifest) }
    if writes, !records.isWritable {
      stopped = records.isReadOnly ? "its folder cannot be written to" : "another process is writing to it"
    }
  }

  package var entries: Int { records.count }

  /// Whether this cache, or one of more rungs, has an entry of this sample.
  package func holds(_ sample: PackedSample) -> Bool {
    let key = SampleKey(sample)
    return records.holds(key) || wider.contains { $0.cache.records.holds(key) }
  }

  // MARK: - Entries

  /// Copies samples out; false, with nothing promised about the contents, where one is missing or damaged.
  /// - Parameters:
  ///   - taps: one BF16 [width, tokens of all samples] per rung; F32 where the format is.
  ///   - final: F32 [width, loss rows of all samples].
  package func read(_ samples: [PackedSample], taps: [Tensor], final: Tensor?) -> Bool {
    read(samples, places: Array(taps.indices), taps: taps, final: final)
      || wider.contains { $0.cache.read(samples, places: $0.places, taps: taps, final: final) }
  }

  /// - Parameter places: where among this cache's rungs each tap is.
  private func read(_ samples: [PackedSample], places: [Int], taps: [Tensor], final: Tensor?) -> Bool {
    let width = description.width, row = description.format.elementType.bytes(width)
    requireForm(taps)
    var token = 0, lossRow = 0
    for sample in samples {
      guard let (record, entry) = records.read(SampleKey(sample)), record.tokens == sample.tokens.count,
        record.rows == sample.lossRows.count
      else {
        return false
      }
      let count = sample.tokens.count
      for (rung, tap) in zip(places, taps) {
        let source = UnsafeRawBufferPointer(rebasing: entry[(rung * count * row)..<((rung + 1) * count * row)])
        if description.format != .q8 {
          tap.write(bytes: source, at: token * row)
        } else {
          Q8.withBFloat16(source, count: count * width) { tap.write(bytes: $0, at: token * 2 * width) }
        }
        if entry.count > KeyedRecords.largeBytes { records.release(source) }
      }
      if let final, record.rows > 0 {
        let start = description.rungs.count * count * row
        final.write(
          bytes: UnsafeRawBufferPointer(rebasing: entry[start..<(start + 4 * width * record.rows)]),
          at: 4 * width * lossRow)
      }
      records.release(entry)
      token += count
      lossRow += record.rows
    }
    return true
  }

  /// Stores samples that are not there yet. Never fails a run: where the disk or the limit is full it stops storing,
  /// once and for all, and says why in `stopped`.
  package func write(_ samples: [PackedSample], taps: [Tensor], final: Tensor?) {
    guard records.isWritable, stopped == nil else { return }
    let width = description.width, row = description.format.elementType.bytes(width)
    let tapRow = description.format == .q8 ? 2 * width : row
    requireForm(taps)
    var token = 0, lossRow = 0
    for sample in samples {
      defer {
        token += sample.tokens.count
        lossRow += sample.lossRows.count
      }
      let key = SampleKey(sample), count = sample.tokens.count
      if records.holds(key) { continue }
      func part(_ bytes: UnsafeMutableRawBufferPointer, _ range: Range<Int>, of row: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
          rebasing: UnsafeRawBufferPointer(bytes)[(row * range.lowerBound)..<(row * range.upperBound)])
      }
      // Rung by rung: of a long text all of them take as much as the weights of a small model.
      let rows = lossRow..<(lossRow + sample.lossRows.count)
      let bytes = taps.count * count * row + (final == nil ? 0 : 4 * width * rows.count)
      let isStored = store(
        {
          records.append(key, tokens: count, rows: rows.count) { put in
            for tap in taps {
              let goesOn = tap.withHostBytes { bytes in
                let own = part(bytes, token..<(token + count), of: tapRow)
                return description.format == .q8 ? Q8.with(bfloat16: own, count: count * width, put) : put(own)
              }
              if !goesOn { return }
            }
            _ = final?.withHostBytes { put(part($0, rows, of: 4 * width)) }
          }
        }, bytes: bytes)
      guard isStored else { return }
    }
  }

  private func requireForm(_ taps: [Tensor]) {
    precondition(
      taps.allSatisfy { $0.isBFloat16 == (description.format != .f32) }, "taps are F32 where the cache is, else BF16")
  }

  /// Waits until the disk has all of it.
  /// - Throws: `inputOutput`.
  package func sync() throws {
    do { try records.sync() } catch { throw LadderError(.inputOutput, "\(path): \(LadderError(any: error).message)") }
  }

  /// The entries' keys in the order in which they were stored.
  package var keysInOrder: [SampleKey] { records.keysInOrder }

  /// Stores another cache's entry, unless there is one of its key.
  /// - Returns: the entry's bytes.
  /// - Throws: `data` where the entry is damaged; `inputOutput` where it cannot be stored.
  package func copy(_ key: SampleKey, from other: ActivationCache) throws -> Int {
    guard let (record, entry) = other.records.read(key) else {
      throw LadderError(.data, "\(other.path) is damaged; remove it and run the shard again")
    }
    defer { other.records.release(entry) }
    if records.holds(key) { return entry.count }
    let bytes = Array(entry)
    guard store({ records.append(key, bytes, tokens: record.tokens, rows: record.rows) }, bytes: bytes.count) else {
      throw LadderError(.inputOutput, "\(path) stores no more: \(stopped ?? "")")
    }
    return bytes.count
  }

  /// Bytes that a sample takes of the limit, with final rows.
  package func bytes(of sample: PackedSample) -> Int {
    let row = description.format.elementType.bytes(description.width)
    return description.rungs.count * sample.tokens.count * row + 4 * description.width * sample.lossRows.count
      + KeyedRecords.recordBytes
  }

  /// Bytes that are left of the limit.
  package var room: Int? { limit.map { max(0, $0 - totalBytes) } }

  /// Stores one more entry; false where the limit has no room for it or the write fails: then nothing more is stored.
  package func store(_ append: () -> String?, bytes: Int) -> Bool {
    let bytes = bytes + KeyedRecords.recordBytes
    stopped = limit.map { totalBytes + bytes > $0 } == true ? "it has reached its limit" : append()
    if stopped == nil { totalBytes += bytes }
    return stopped == nil
  }

  /// Whether this process may store entries.
  package var isWritable: Bool { records.isWritable }

  // MARK: - Measurements

  /// What was measured over samples' taps and is kept beside them; of a cache of more rungs, those of this one.
  package func measurement<M: RungMeasurement>(_ name: String, over samples: [PackedSample]) -> M? {
    if let own: M = ownMeasurement(name, over: samples) { return own }
    for other in wider {
      if let all: M = other.cache.ownMeasurement(name, over: samples) { return all.selecting(other.places) }
    }
    return nil
  }

  private func ownMeasurement<M: RungMeasurement>(_ name: String, over samples: [PackedSample]) -> M? {
    DurableFile.value(measurementPath(name, samples))
  }

  package func store(_ measurement: some RungMeasurement, _ name: String, over samples: [PackedSample]) {
    guard records.isWritable, let data = try? JSONEncoder().encode(measurement) else { return }
    try? DurableFile.write(measurementPath(name, samples), [data])
  }

  private func measurementPath(_ name: String, _ samples: [PackedSample]) -> String {
    var sum = Checksum()
    for sample in samples { sum.mix(SampleKey(sample)) }
    return path + "/\(name)-\(sum.text).json"
  }
}
