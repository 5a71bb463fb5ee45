import Foundation

/// Files that are whole or not there: written under a temporary name, synced, then renamed.
package enum DurableFile {
  /// - Throws: `inputOutput` with the system's reason (a full disk, missing permissions); an older file stays as it
  ///   was.
  package static func write(_ path: String, _ parts: [Data]) throws {
    let temporary = path + ".tmp"
    do {
      try writeSynced(temporary, parts)
      try move(temporary, to: path)
    } catch {
      unlink(temporary)
      throw error
    }
    syncFolder((path as NSString).deletingLastPathComponent)
  }

  /// Writes a value as JSON, its keys in order.
  package static func write(_ path: String, json value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    try write(path, [try encoder.encode(value)])
  }

  /// Renames a file or a folder.
  package static func move(_ from: String, to path: String) throws {
    guard rename(from, path) == 0 else { throw failure(path) }
  }

  package static func makeFolder(_ path: String) throws {
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw LadderError(
        .inputOutput, "cannot make the folder \(path): \(reason(error)); choose a place that you can write to")
    }
  }

  /// Makes a folder's entries durable after a rename in it.
  package static func syncFolder(_ path: String) {
    let descriptor = open(path.isEmpty ? "." : path, O_RDONLY)
    if descriptor >= 0 {
      fsync(descriptor)
      close(descriptor)
    }
  }

  package static func read(_ path: String) throws -> Data {
    guard FileManager.default.fileExists(atPath: path) else { throw LadderError(.missing, "no file at \(path)") }
    do {
      return try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
    } catch {
      throw LadderError(.inputOutput, "cannot read \(path): \(reason(error))")
    }
  }

  private static func writeSynced(_ path: String, _ parts: [Data]) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    guard descriptor >= 0 else { throw failure(path) }
    defer { close(descriptor) }
    for part in parts {
      try part.withUnsafeBytes { bytes in
        var offset = 0
        while offset < bytes.count {
          let written = Foundation.write(descriptor, bytes.baseAddress.map { $0 + offset }, bytes.count - offset)
          if written < 0 {
            if errno == EINTR { continue }
            throw failure(path)
          }
          offset += written
        }
      }
    }
    guard fsync(descriptor) == 0 else { throw failure(path) }
  }

  private static func failure(_ path: String) -> LadderError {
    let code = errno
    let advice = code == ENOSPC || code == EDQUOT ? "; make room and go on with `resume`" : ""
    return LadderError(.inputOutput, "cannot write \(path): \(String(cString: strerror(code)))\(advice)")
  }

  private static func reason(_ error: any Error) -> String {
    let error = error as NSError
    let underlying = error.userInfo[NSUnderlyingErrorKey] as? NSError ?? error
    return underlying.domain == NSPOSIXErrorDomain
      ? String(cString: strerror(Int32(underlying.code))) : error.localizedDescription
  }
}
