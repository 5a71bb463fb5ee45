import Foundation
import LadderCore

/// A file that is being fetched, under a temporary name that the next try finds again.
final class PartialFile {
  let path: String
  private let descriptor: Int32
  private(set) var count: Int

  /// Opens what an earlier try left, or a new one.
  init(_ path: String) throws {
    self.path = path
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw Self.failure(path) }
    var status = stat()
    count = fstat(descriptor, &status) == 0 ? Int(status.st_size) : 0
  }

  deinit { close(descriptor) }

  func append(_ bytes: UnsafeRawBufferPointer) throws {
    var offset = 0
    while offset < bytes.count {
      let written = pwrite(
        descriptor, bytes.baseAddress.map { $0 + offset }, bytes.count - offset, off_t(count))
      if written < 0 {
        if errno == EINTR { continue }
        throw Self.failure(path)
      }
      offset += written
      count += written
    }
  }

  /// Keeps it to this process until it is closed; false where another has it.
  func lock() -> Bool { DurableFile.lock(descriptor) }

  /// Cuts it.
  func truncate(to size: Int) throws {
    guard ftruncate(descriptor, off_t(size)) == 0 else { throw Self.failure(path) }
    count = size
  }

  /// Its bytes in order, in parts.
  func read(_ body: (UnsafeRawBufferPointer) throws -> Void) throws {
    try withUnsafeTemporaryAllocation(byteCount: 1 << 20, alignment: 16) { buffer in
      var place = 0
      while place < count {
        let got = pread(descriptor, buffer.baseAddress, min(buffer.count, count - place), off_t(place))
        if got < 0, errno == EINTR { continue }
        guard got > 0 else {
          throw LadderError(.inputOutput, "cannot read \(path): \(String(cString: strerror(errno)))")
        }
        try body(UnsafeRawBufferPointer(rebasing: buffer[..<got]))
        place += got
      }
    }
  }

  /// Gives it its name, once the device holds it.
  func finish(as final: String) throws {
    try DurableFile.syncFile(path)
    try DurableFile.move(path, to: final)
    DurableFile.syncFolder((final as NSString).deletingLastPathComponent)
  }

  private static func failure(_ path: String) -> LadderError {
    let code = errno
    let advice = code == ENOSPC || code == EDQUOT ? "; make room and run the same command again to go on" : ""
    return LadderError(.inputOutput, "cannot write \(path): \(String(cString: strerror(code)))\(advice)")
  }
}
