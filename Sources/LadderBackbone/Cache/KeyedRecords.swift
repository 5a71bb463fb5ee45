import Foundation
import LadderCompute
import LadderCore

/// Entries under keys in two files: one holds them one after another, the index 64 bytes for each, written after the
/// entry itself.
///
/// An entry counts once its index record is whole, and is used once its checksum holds: a process that is killed at any
/// moment leaves no entry that is read by half. One process writes at a time; others read, what it adds meanwhile too.
package final class KeyedRecords {
  package struct Record {
    package var offset: Int
    package var bytes: Int
    /// Two numbers that the entry's reader needs.
    package var tokens: Int
    package var rows: Int
    package var checksum: UInt64
    var verified = false
  }

  /// Whether this process is the one that writes.
  package let isWritable: Bool
  /// Whether no process may write, by the files' permissions.
  package let isReadOnly: Bool
  private var records: [SampleKey: Record] = [:]
  private let data: Int32
  private let index: Int32
  private var end = 0
  private var indexEnd = 0
  private var mapping: UnsafeRawBufferPointer?
  static let recordBytes = 64
  /// An entry of more is let go of part by part.
  static let largeBytes = 8 << 20

  /// Opens or makes the two files; those of a folder that cannot be written to are read.
  /// - Throws: `inputOutput` where they cannot be opened.
  package init(data dataPath: String, index indexPath: String, writes: Bool) throws {
    func openFile(_ path: String) -> Int32 {
      let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
      return descriptor < 0 && (errno == EACCES || errno == EROFS) ? open(path, O_RDONLY | O_CLOEXEC) : descriptor
    }
    data = openFile(dataPath)
    index = openFile(indexPath)
    let error = errno
    let mayWrite = index >= 0 && data >= 0 && fcntl(data, F_GETFL) & O_ACCMODE == O_RDWR
    isReadOnly = !mayWrite
    isWritable = writes && mayWrite && DurableFile.lock(index)
    guard data >= 0, index >= 0 else {
      throw LadderError(.inputOutput, "cannot open the cache in \(dataPath): \(String(cString: strerror(error)))")
    }
    readIndex()
  }

  deinit {
    unmap()
    if data >= 0 { close(data) }
    if index >= 0 { close(index) }
  }

  package var count: Int { records.count }

  /// Waits until the disk has all of it: some file systems tell only then that it is full.
  /// - Throws: `inputOutput`.
  package func sync() throws {
    guard isWritable, DurableFile.sync(data), DurableFile.sync(index) else {
      throw LadderError(.inputOutput, "it cannot be written: \(String(cString: strerror(errno)))")
    }
  }

  /// In the order in which they were stored.
  package var keysInOrder: [SampleKey] {
    records.sorted { ($0.value.offset, $0.value.bytes) < ($1.value.offset, $1.value.bytes) }.map(\.key)
  }

  package func holds(_ key: SampleKey) -> Bool { record(key) != nil }

  /// What is known of an entry, or of one that another process has added since.
  private func record(_ key: SampleKey) -> Record? {
    if let record = records[key] { return record }
    guard !isWritable, Int(lseek(index, 0, SEEK_END)) >= indexEnd + Self.recordBytes else { return nil }
    readIndex()
    return records[key]
  }

  /// The entry's bytes in the file, until the next call that changes it; nil where it is missing or damaged.
  package func read(_ key: SampleKey) -> (record: Record, entry: UnsafeRawBufferPointer)? {
    guard var record = record(key), let entry = bytes(record) else { return nil }
    if !record.verified {
      guard checksum(entry) == record.checksum else {
        records[key] = nil
        return nil
      }
      record.verified = true
      records[key] = record
    }
    return (record, entry)
  }

  /// Holds a part of the entry at a time.
  private func checksum(_ entry: UnsafeRawBufferPointer) -> UInt64 {
    var sum = ContentChecksum()
    for start in stride(from: 0, to: entry.count, by: Self.largeBytes) {
      let part = UnsafeRawBufferPointer(rebasing: entry[start..<min(entry.count, start + Self.largeBytes)])
      sum.add(part)
      if entry.count > Self.largeBytes { release(part) }
    }
    return sum.value
  }

  /// Stores an entry; nil once it is there, else why it is not.
  package func append(_ key: SampleKey, _ entry: [UInt8], tokens: Int, rows: Int) -> String? {
    append(key, tokens: tokens, rows: rows) { put in _ = entry.withUnsafeBytes(put) }
  }

  /// The same, of pieces that follow each other.
  /// - Parameter pieces: hands each to the closure, and no more once that says false.
  package func append(
    _ key: SampleKey, tokens: Int, rows: Int, _ pieces: ((UnsafeRawBufferPointer) -> Bool) -> Void
  ) -> String? {
    var bytes = 0, sum = ContentChecksum(), error: Int32?
    pieces { piece in
      guard error == nil, Self.write(data, piece, at: end + bytes) else {
        error = error ?? errno
        return false
      }
      sum.add(piece)
      bytes += piece.count
      return true
    }
    let record = Record(
      offset: end, bytes: bytes, tokens: tokens, rows: rows, checksum: sum.value, verified: true)
    let line = Self.encode(key, record)
    if error == nil, !line.withUnsafeBytes({ Self.write(index, $0, at: indexEnd) }) { error = errno }
    if let error {
      let why = "it cannot be written: \(String(cString: strerror(error)))"
      ftruncate(data, off_t(end))
      ftruncate(index, off_t(indexEnd))
      return why
    }
    end += (bytes + 63) / 64 * 64
    indexEnd += Self.recordBytes
    records[key] = record
    return nil
  }

  /// Lets go of an entry's pages, which stay in the system's cache: the process holds no more of the file than it is
  /// reading.
  package func release(_ entry: UnsafeRawBufferPointer) {
    guard let base = mapping?.baseAddress, let start = entry.baseAddress else { return }
    let page = Int(sysconf(Int32(_SC_PAGESIZE))), first = (start - base) / page * page
    madvise(UnsafeMutableRawPointer(mutating: base + first), start - base - first + entry.count, MADV_DONTNEED)
  }

  /// The records of an index file's contents, up to the first that is not whole.
  static func records(ofIndex contents: Data) -> [Record] {
    var found: [Record] = []
    for start in stride(from: 0, through: contents.count - recordBytes, by: recordBytes) {
      guard
        let (_, record) = decode(
          Array(contents[(contents.startIndex + start)..<(contents.startIndex + start + recordBytes)]))
      else { break }
      found.append(record)
    }
    return found
  }

  // MARK: - Files

  /// Reads the records that follow those which are known.
  private func readIndex() {
    let size = Int(lseek(index, 0, SEEK_END)) - indexEnd
    var buffer = [UInt8](repeating: 0, count: max(0, size))
    let got = size > 0 ? pread(index, &buffer, size, off_t(indexEnd)) : 0
    // An entry is there before its record: the data's size is asked for second.
    let dataSize = Int(lseek(data, 0, SEEK_END))
    var position = 0
    while position + Self.recordBytes <= got {
      guard let (key, record) = Self.decode(Array(buffer[position..<(position + Self.recordBytes)])),
        record.offset <= dataSize, record.bytes <= dataSize - record.offset
      else { break }
      records[key] = record
      end = max(end, (record.offset + record.bytes + 63) / 64 * 64)
      position += Self.recordBytes
    }
    // What follows the last whole record was cut short by a kill and is written over.
    indexEnd += position
    if isWritable { ftruncate(index, off_t(indexEnd)) }
  }

  private static func encode(_ key: SampleKey, _ r: Record) -> [UInt8] {
    var words: [UInt64] = [
      key.low, key.high, UInt64(r.offset), UInt64(r.bytes), UInt64(r.tokens), UInt64(r.rows), r.checksum,
    ]
    var sum = Checksum()
    words.forEach { sum.mix($0) }
    words.append(sum.value)
    return words.map(\.littleEndian).withUnsafeBytes { Array($0) }
  }

  private static func decode(_ bytes: [UInt8]) -> (SampleKey, Record)? {
    let words = bytes.withUnsafeBytes { raw in
      (0..<8).map { UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self)) }
    }
    var sum = Checksum()
    words[..<7].forEach { sum.mix($0) }
    guard sum.value == words[7], words[2..<6].allSatisfy({ $0 < 1 << 60 }) else { return nil }
    return (
      SampleKey(low: words[0], high: words[1]),
      Record(
        offset: Int(words[2]), bytes: Int(words[3]), tokens: Int(words[4]), rows: Int(words[5]), checksum: words[6])
    )
  }

  private func bytes(_ record: Record) -> UnsafeRawBufferPointer? {
    if record.offset + record.bytes > (mapping?.count ?? 0) {
      unmap()
      let size = Int(lseek(data, 0, SEEK_END))
      guard size >= record.offset + record.bytes, let base = mmap(nil, size, PROT_READ, MAP_SHARED, data, 0),
        base != MAP_FAILED
      else { return nil }
      mapping = UnsafeRawBufferPointer(start: base, count: size)
    }
    return mapping.map { UnsafeRawBufferPointer(rebasing: $0[record.offset..<(record.offset + record.bytes)]) }
  }

  private func unmap() {
    if let mapping { munmap(UnsafeMutableRawPointer(mutating: mapping.baseAddress), mapping.count) }
    mapping = nil
  }

  private static func write(_ descriptor: Int32, _ raw: UnsafeRawBufferPointer, at offset: Int) -> Bool {
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
