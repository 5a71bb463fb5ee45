import Foundation
import LadderCore

/// Reads a file's header from front to back, part by part, and never past the file's end: a length that no file can
/// have is an error before anything is set aside for it.
final class HeaderReader {
  let path: String
  /// Bytes of the file.
  let size: Int
  private let descriptor: Int32
  private var buffer: [UInt8] = []
  /// Where in the file the buffer begins, and where in the buffer reading goes on.
  private var start = 0
  private var place = 0
  private static let part = 1 << 20

  /// - Throws: `missing`; `inputOutput` where it cannot be read; `data` where it is no file of its own.
  init(path: String) throws {
    self.path = path
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFDIR else {
      throw LadderError(.missing, "no model file at \(path)")
    }
    guard status.st_mode & S_IFMT == S_IFREG else { throw LadderError(.data, "\(path) is not a regular file") }
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw LadderError(.inputOutput, "cannot read \(path): check its permissions") }
    size = Int(status.st_size)
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Bytes from the start of the file.
  var position: Int { start + place }

  func integer<Number: FixedWidthInteger>(_ type: Number.Type = Number.self) throws -> Number {
    let count = MemoryLayout<Number>.size
    try need(count)
    defer { place += count }
    return buffer.withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(fromByteOffset: place, as: Number.self)) }
  }

  /// A count of things that take `least` bytes each at the least.
  func count(ofAtLeast least: Int) throws -> Int {
    let count = try integer(UInt64.self)
    guard count <= UInt64(max(0, size - position) / least) else { throw cutShort() }
    return Int(count)
  }

  /// Calls `body` with the next bytes.
  func bytes<R>(_ count: Int, _ body: (UnsafeRawBufferPointer) throws -> R) throws -> R {
    try need(count)
    defer { place += count }
    return try buffer.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[place..<(place + count)])) }
  }

  func skip(_ count: Int) throws {
    guard count <= size - position else { throw cutShort() }
    place += count
  }

  func cutShort() -> LadderError {
    LadderError(.data, "\(path) is cut short: its header goes on behind its \(size) bytes; fetch the file again")
  }

  /// Sees to it that the next bytes are in the buffer.
  private func need(_ count: Int) throws {
    guard buffer.count - place < count else { return }
    guard count <= size - position else { throw cutShort() }
    start += place
    place = 0
    let wanted = min(size - start, max(count, Self.part))
    var read = 0
    buffer = try [UInt8](unsafeUninitializedCapacity: wanted) { bytes, filled in
      while read < wanted {
        let got = pread(descriptor, bytes.baseAddress.map { $0 + read }, wanted - read, off_t(start + read))
        if got < 0, errno == EINTR { continue }
        if got < 0 { throw LadderError(.inputOutput, "cannot read \(path): \(String(cString: strerror(errno)))") }
        if got == 0 { break }
        read += got
      }
      filled = read
    }
    // The file may have become shorter.
    guard count <= read else { throw cutShort() }
  }
}
