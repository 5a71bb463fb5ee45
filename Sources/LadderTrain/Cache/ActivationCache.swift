import Foundation
import LadderBackbone
import LadderCompute
import LadderSide

/// What the frozen backbone handed out for each sample, kept on disk: later epochs and later runs read it and never run the
/// backbone.
///
///     DIR/KEY/cache.json         what it belongs to: backbone, rungs, element type, and the head's own description
///     DIR/KEY/activations        entries, one after another: taps rung by rung, then the final rows in F32
///     DIR/KEY/index              64 bytes an entry, written after the entry itself
///     DIR/KEY/statistics-N.json  the taps' means and deviations over a set of samples; statistics-answers-N.json, over their answers
///
/// An entry counts once its index record is whole, and is used once its checksum holds: a process that is killed at any moment
/// leaves no entry that is read by half. One process writes at a time; others read. What a cache of more rungs in the same folder
/// holds is read from there: fill one with all rungs, and every choice of them is free.
public final class ActivationCache: @unchecked Sendable {
  /// How taps are stored.
  public enum Format: String, Codable, Sendable, CaseIterable {
    /// As the side network reads them.
    case bf16
    /// Half the size, rounded to 8 bits in blocks of 32 channels.
    case q8 = "q8_0"

    package var elementType: ElementType { self == .bf16 ? .bfloat16 : .q8 }
  }

  /// The contents of `cache.json`.
  public struct Description: Codable, Sendable, Equatable {
    public var version = 1
    public var backbone: String
    public var fingerprint: String
    public var rungs: [Int]
    public var width: Int
    public var format: Format
    public var head: HeadDescription

    /// - Parameter rungs: the tapped blocks, 1-based.
    public init(_ backbone: Backbone, rungs: [Int], format: Format = .bf16) {
      self.backbone = backbone.file.name ?? backbone.file.architecture
      fingerprint = backbone.fingerprint
      self.rungs = rungs
      width = backbone.width
      self.format = format
      head = backbone.head.description
    }
  }

  /// What one folder holds.
  public struct Summary: Sendable {
    public var path: String
    public var description: Description
    public var entries: Int
    public var tokens: Int
    public var bytes: Int
  }

  public let path: String
  public let description: Description
  /// Bytes that the whole of DIR may take; nil sets no limit.
  public let limit: Int?
  /// Why nothing more is stored, once that is so.
  public private(set) var stopped: String?

  private struct Record {
    var offset: Int
    var bytes: Int
    var tokens: Int
    var rows: Int
    var checksum: UInt64
    var verified = false
  }

  private var records: [SampleKey: Record] = [:]
  private var data: Int32 = -1
  private var index: Int32 = -1
  private var end = 0
  private var indexEnd = 0
  private var totalBytes = 0
  private var writable = false
  private var mapping: UnsafeRawBufferPointer?
  private var wider: [WiderCache] = []
  private static let recordBytes = 64

  /// A cache that holds more rungs of the same backbone in the same format.
  private struct WiderCache {
    let cache: ActivationCache
    /// Where among its rungs those of the narrower one are.
    let places: [Int]
  }

  /// Opens or makes the cache of one backbone, tap set and format in `directory`.
  /// - Throws: `inputOutput` where the folder cannot be made; `data` where it belongs to something else.
  public convenience init(directory: String, description: Description, limit: Int? = nil) throws {
    try self.init(path: directory + "/" + Self.folderName(description), description: description, limit: limit, writes: true)
    totalBytes = Self.bytes(of: directory)
    wider = Self.descriptions(in: directory).compactMap { path, other in
      var narrowed = other
      narrowed.rungs = description.rungs
      let places = description.rungs.compactMap(other.rungs.firstIndex)
      guard narrowed == description, other.rungs.count > description.rungs.count, places.count == description.rungs.count,
        let cache = try? Self(path: path, description: other, limit: nil, writes: false)
      else { return nil }
      return WiderCache(cache: cache, places: places)
    }
  }

  private init(path: String, description: Description, limit: Int?, writes: Bool) throws {
    self.description = description
    self.limit = limit
    self.path = path
    try DurableFile.makeFolder(path)
    let manifest = path + "/cache.json"
    if FileManager.default.fileExists(atPath: manifest) {
      guard let found = try? JSONDecoder().decode(Description.self, from: try DurableFile.read(manifest)), found == description else {
        throw LadderError(.data, "\(path) belongs to another backbone or version; remove the folder, or pass another --cache")
      }
    } else {
      try DurableFile.write(manifest, json: description)
    }
    data = open(path + "/activations", O_RDWR | O_CREAT, 0o644)
    index = open(path + "/index", O_RDWR | O_CREAT, 0o644)
    guard data >= 0, index >= 0 else { throw LadderError(.inputOutput, "cannot open the cache in \(path): \(String(cString: strerror(errno)))") }
    writable = writes && flock(index, LOCK_EX | LOCK_NB) == 0
    if writes, !writable { stopped = "another process is writing to it" }
    readIndex()
  }

  deinit {
    unmap()
    if data >= 0 { close(data) }
    if index >= 0 { close(index) }
  }

  public var entries: Int { records.count }

  // MARK: - Entries

  /// Copies samples out; false, with nothing promised about the contents, where one is missing or damaged.
  /// - Parameters:
  ///   - taps: one BF16 [width, tokens of all samples] per rung.
  ///   - final: F32 [width, loss rows of all samples].
  func read(_ samples: [PackedSample], taps: [Tensor], final: Tensor?) -> Bool {
    read(samples, places: Array(taps.indices), taps: taps, final: final)
      || wider.contains { $0.cache.read(samples, places: $0.places, taps: taps, final: final) }
  }

  /// - Parameter places: where among this cache's rungs each tap is.
  private func read(_ samples: [PackedSample], places: [Int], taps: [Tensor], final: Tensor?) -> Bool {
    let d = description.width, row = description.format.elementType.bytes(d)
    var token = 0, lossRow = 0
    for sample in samples {
      let key = SampleKey(sample)
      guard var record = records[key], record.tokens == sample.tokens.count, record.rows == sample.lossRows.count, let entry = bytes(record) else {
        return false
      }
      if !record.verified {
        guard Checksum.of(entry) == record.checksum else {
          records[key] = nil
          return false
        }
        record.verified = true
        records[key] = record
      }
      let n = sample.tokens.count
      for (rung, tap) in zip(places, taps) {
        let source = UnsafeRawBufferPointer(rebasing: entry[(rung * n * row)..<((rung + 1) * n * row)])
        if description.format == .bf16 {
          tap.write(bytes: source, at: token * row)
        } else {
          Q8.withBFloat16(source, count: n * d) { tap.write(bytes: $0, at: token * 2 * d) }
        }
      }
      if let final, record.rows > 0 {
        let start = description.rungs.count * n * row
        final.write(bytes: UnsafeRawBufferPointer(rebasing: entry[start..<(start + 4 * d * record.rows)]), at: 4 * d * lossRow)
      }
      release(entry)
      token += n
      lossRow += record.rows
    }
    return true
  }

  /// Stores samples that are not there yet. Never fails a run: where the disk or the limit is full it stops storing, once and
  /// for all, and says why in `stopped`.
  func write(_ samples: [PackedSample], taps: [Tensor], final: Tensor) {
    guard writable, stopped == nil else { return }
    let d = description.width, row = description.format.elementType.bytes(d)
    var token = 0, lossRow = 0
    for sample in samples {
      defer {
        token += sample.tokens.count
        lossRow += sample.lossRows.count
      }
      let key = SampleKey(sample), n = sample.tokens.count
      if records[key] != nil { continue }
      var entry = [UInt8]()
      entry.reserveCapacity(taps.count * n * row + 4 * d * sample.lossRows.count)
      for tap in taps {
        tap.withHostBytes { bytes in
          let own = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(bytes)[(2 * d * token)..<(2 * d * (token + n))])
          if description.format == .bf16 { entry.append(contentsOf: own) } else { Q8.append(bfloat16: own, count: n * d, to: &entry) }
        }
      }
      final.withHostBytes { bytes in entry.append(contentsOf: bytes[(4 * d * lossRow)..<(4 * d * (lossRow + sample.lossRows.count))]) }
      if let limit, totalBytes + entry.count + Self.recordBytes > limit {
        stopped = "it has reached its limit"
        return
      }
      let record = Record(
        offset: end, bytes: entry.count, tokens: n, rows: sample.lossRows.count, checksum: entry.withUnsafeBytes(Checksum.of), verified: true)
      guard Self.write(data, entry, at: end), Self.write(index, Self.encode(key, record), at: indexEnd) else {
        stopped = "it cannot be written: \(String(cString: strerror(errno)))"
        ftruncate(data, off_t(end))
        ftruncate(index, off_t(indexEnd))
        return
      }
      end += (entry.count + 63) / 64 * 64
      indexEnd += Self.recordBytes
      totalBytes += entry.count + Self.recordBytes
      records[key] = record
    }
  }

  // MARK: - Statistics

  func statistics(over samples: [PackedSample], _ rows: SideConfiguration.StatisticsRows) -> TapStatistics? {
    if let own = ownStatistics(over: samples, rows) { return own }
    for other in wider {
      if let all = other.cache.ownStatistics(over: samples, rows) { return all.selecting(other.places) }
    }
    return nil
  }

  private func ownStatistics(over samples: [PackedSample], _ rows: SideConfiguration.StatisticsRows) -> TapStatistics? {
    (try? DurableFile.read(statisticsPath(samples, rows))).flatMap { try? JSONDecoder().decode(TapStatistics.self, from: $0) }
  }

  func store(_ statistics: TapStatistics, over samples: [PackedSample], _ rows: SideConfiguration.StatisticsRows) {
    guard writable, let data = try? JSONEncoder().encode(statistics) else { return }
    try? DurableFile.write(statisticsPath(samples, rows), [data])
  }

  private func statisticsPath(_ samples: [PackedSample], _ rows: SideConfiguration.StatisticsRows) -> String {
    var sum = Checksum()
    for sample in samples {
      let key = SampleKey(sample)
      sum.mix(key.low)
      sum.mix(key.high)
    }
    return path + "/statistics-" + (rows == .answers ? "answers-" : "") + String(format: "%016llx", sum.value) + ".json"
  }

  // MARK: - Files

  private static func folderName(_ description: Description) -> String {
    var sum = Checksum()
    for rung in description.rungs { sum.mix(UInt64(rung)) }
    return "\(description.fingerprint)-\(String(format: "%08llx", sum.value & 0xffff_ffff))-\(description.format.rawValue)"
  }

  private func readIndex() {
    let size = Int(lseek(index, 0, SEEK_END)), dataSize = Int(lseek(data, 0, SEEK_END))
    var buffer = [UInt8](repeating: 0, count: size)
    let got = size > 0 ? pread(index, &buffer, size, 0) : 0
    var position = 0
    while position + Self.recordBytes <= got {
      guard let (key, record) = Self.decode(Array(buffer[position..<(position + Self.recordBytes)])), record.offset + record.bytes <= dataSize else { break }
      records[key] = record
      end = max(end, (record.offset + record.bytes + 63) / 64 * 64)
      position += Self.recordBytes
    }
    // What follows the last whole record was cut short by a kill and is written over.
    indexEnd = position
    if writable { ftruncate(index, off_t(indexEnd)) }
  }

  private static func encode(_ key: SampleKey, _ r: Record) -> [UInt8] {
    var words: [UInt64] = [key.low, key.high, UInt64(r.offset), UInt64(r.bytes), UInt64(r.tokens), UInt64(r.rows), r.checksum]
    var sum = Checksum()
    words.forEach { sum.mix($0) }
    words.append(sum.value)
    return words.map(\.littleEndian).withUnsafeBytes { Array($0) }
  }

  private static func decode(_ bytes: [UInt8]) -> (SampleKey, Record)? {
    let words = bytes.withUnsafeBytes { raw in (0..<8).map { UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self)) } }
    var sum = Checksum()
    words[..<7].forEach { sum.mix($0) }
    guard sum.value == words[7] else { return nil }
    return (
      SampleKey(low: words[0], high: words[1]),
      Record(offset: Int(words[2]), bytes: Int(words[3]), tokens: Int(words[4]), rows: Int(words[5]), checksum: words[6])
    )
  }

  private func bytes(_ record: Record) -> UnsafeRawBufferPointer? {
    if record.offset + record.bytes > (mapping?.count ?? 0) {
      unmap()
      let size = Int(lseek(data, 0, SEEK_END))
      guard size >= record.offset + record.bytes, let base = mmap(nil, size, PROT_READ, MAP_SHARED, data, 0), base != MAP_FAILED else { return nil }
      mapping = UnsafeRawBufferPointer(start: base, count: size)
    }
    return mapping.map { UnsafeRawBufferPointer(rebasing: $0[record.offset..<(record.offset + record.bytes)]) }
  }

  /// Lets go of an entry's pages, which stay in the system's cache: the process holds no more of the file than it is reading.
  private func release(_ entry: UnsafeRawBufferPointer) {
    guard let base = mapping?.baseAddress, let start = entry.baseAddress else { return }
    let page = Int(sysconf(Int32(_SC_PAGESIZE))), first = (start - base) / page * page
    madvise(UnsafeMutableRawPointer(mutating: base + first), start - base - first + entry.count, MADV_DONTNEED)
  }

  private func unmap() {
    if let mapping { munmap(UnsafeMutableRawPointer(mutating: mapping.baseAddress), mapping.count) }
    mapping = nil
  }

  private static func write(_ descriptor: Int32, _ bytes: [UInt8], at offset: Int) -> Bool {
    bytes.withUnsafeBytes { raw in
      var done = 0
      while done < raw.count {
        let written = pwrite(descriptor, raw.baseAddress.map { $0 + done }, raw.count - done, off_t(offset + done))
        if written < 0 {
          if errno == EINTR { continue }
          return false
        }
        done += written
      }
      return true
    }
  }

  // MARK: - Looking from outside

  /// What each folder of `directory` that holds a cache says of itself, by name.
  private static func descriptions(in directory: String) -> [(path: String, description: Description)] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    return names.sorted().compactMap { name in
      let path = directory + "/" + name
      guard let json = try? DurableFile.read(path + "/cache.json") else { return nil }
      return (try? JSONDecoder().decode(Description.self, from: json)).map { (path, $0) }
    }
  }

  /// The caches in a folder; empty where it holds none.
  public static func summaries(in directory: String) -> [Summary] {
    descriptions(in: directory).compactMap { path, description in
      guard let index = try? DurableFile.read(path + "/index") else { return nil }
      var entries = 0, tokens = 0
      for start in stride(from: 0, through: index.count - recordBytes, by: recordBytes) {
        guard let (_, record) = decode(Array(index[(index.startIndex + start)..<(index.startIndex + start + recordBytes)])) else { break }
        entries += 1
        tokens += record.tokens
      }
      return Summary(path: path, description: description, entries: entries, tokens: tokens, bytes: bytes(of: path))
    }
  }

  /// The head's description that a cache of this backbone holds, so that the backbone need not be run to find it.
  public static func head(in directory: String, fingerprint: String) -> HeadDescription? {
    descriptions(in: directory).first { $0.description.fingerprint == fingerprint }?.description.head
  }

  private static func bytes(of folder: String) -> Int {
    let files = FileManager.default.enumerator(atPath: folder)
    var sum = 0
    while let name = files?.nextObject() as? String {
      sum += ((try? FileManager.default.attributesOfItem(atPath: folder + "/" + name))?[.size] as? NSNumber)?.intValue ?? 0
    }
    return sum
  }
}

/// Tells samples apart: 128 bits over tokens and loss rows.
struct SampleKey: Hashable {
  var low: UInt64
  var high: UInt64

  init(low: UInt64, high: UInt64) {
    self.low = low
    self.high = high
  }

  init(_ sample: PackedSample) {
    var a = Checksum(), b = Checksum(seed: 0x5bd1_e995_9747_b28c)
    for token in sample.tokens {
      a.mix(UInt64(UInt32(bitPattern: token)))
      b.mix(UInt64(UInt32(bitPattern: token)) &+ 1)
    }
    a.mix(UInt64.max)
    for row in sample.lossRows {
      a.mix(UInt64(row))
      b.mix(UInt64(row) &+ 0x1_0000_0000)
    }
    low = a.value
    high = b.value
  }
}

/// A 64-bit checksum over words (multiply and rotate): finds torn and damaged data, guards against no forger.
struct Checksum {
  private(set) var value: UInt64

  init(seed: UInt64 = 0x9E37_79B9_7F4A_7C15) { value = seed }

  mutating func mix(_ word: UInt64) {
    value = (value ^ word) &* 0xBF58_476D_1CE4_E5B9
    value = (value << 27 | value >> 37) &+ 0x94D0_49BB_1331_11EB
  }

  static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    // Four lanes, so that the multiplications overlap.
    var lanes = (0..<4).map { Checksum(seed: UInt64($0) &* 0x9E37_79B9_7F4A_7C15 &+ 1) }
    let words = bytes.count / 8
    lanes.withUnsafeMutableBufferPointer { lanes in
      var i = 0
      while i + 4 <= words {
        for lane in 0..<4 { lanes[lane].mix(bytes.loadUnaligned(fromByteOffset: 8 * (i + lane), as: UInt64.self)) }
        i += 4
      }
      while i < words {
        lanes[0].mix(bytes.loadUnaligned(fromByteOffset: 8 * i, as: UInt64.self))
        i += 1
      }
    }
    var sum = Checksum()
    lanes.forEach { sum.mix($0.value) }
    for byte in bytes[(8 * words)...] { sum.mix(UInt64(byte)) }
    sum.mix(UInt64(bytes.count))
    return sum.value
  }
}
