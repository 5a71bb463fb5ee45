import Foundation

/// Files that are whole or not there: written under a temporary name, synced, then renamed.
package enum DurableFile {
  /// - Throws: `inputOutput` with the system's reason (a full disk, missing permissions); an older file stays as it
  ///   was.
  package static func write(_ path: String, _ parts: [Data]) throws {
    try write(path) { file in
      for part in parts { try part.withUnsafeBytes { try file.append($0) } }
    }
  }

  /// A file that is being written.
  package struct Writer {
    fileprivate let descriptor: Int32
    fileprivate let path: String

    package func append(_ bytes: UnsafeRawBufferPointer) throws {
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

  /// Writes what `body` appends.
  package static func write(_ path: String, _ body: (Writer) throws -> Void) throws {
    // Its own, so that two processes which write the same file do not take each other's away.
    let temporary = "\(path).\(getpid()).tmp"
    do {
      try writeSynced(temporary, body)
      try move(temporary, to: path)
    } catch {
      unlink(temporary)
      throw error
    }
    syncFolder((path as NSString).deletingLastPathComponent)
  }

  /// Removes what processes that run no more left of `write` to this path, a folder too.
  package static func sweep(_ path: String) {
    let parent = (path as NSString).deletingLastPathComponent, folder = parent.isEmpty ? "." : parent
    let prefix = (path as NSString).lastPathComponent + "."
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    where name.hasPrefix(prefix) && name.hasSuffix(".tmp") {
      guard let process = pid_t(name.dropFirst(prefix.count).dropLast(4)), kill(process, 0) != 0, errno == ESRCH else {
        continue
      }
      try? FileManager.default.removeItem(atPath: folder + "/" + name)
    }
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
      _ = sync(descriptor)
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

  /// The value that a file holds as JSON; nil where there is no such file or it holds something else.
  package static func value<T: Decodable>(_ path: String) -> T? {
    (try? read(path)).flatMap { try? JSONDecoder().decode(T.self, from: $0) }
  }

  /// Keeps an open file to this process until it is closed.
  /// - Returns: false where another process has it. Where the file system knows no locks, one is taken on trust.
  package static func lock(_ descriptor: Int32) -> Bool {
    flock(descriptor, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR)
  }

  private static func writeSynced(_ path: String, _ body: (Writer) throws -> Void) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    guard descriptor >= 0 else { throw failure(path) }
    defer { close(descriptor) }
    try body(Writer(descriptor: descriptor, path: path))
    guard sync(descriptor) else { throw failure(path) }
  }

  /// Waits until the device holds what was written: on macOS fsync leaves it in the drive's own cache.
  package static func sync(_ descriptor: Int32) -> Bool {
    #if canImport(Darwin)
      if fcntl(descriptor, F_FULLFSYNC) == 0 { return true }
    #endif
    return fsync(descriptor) == 0
  }

  /// Makes a file durable that another library wrote.
  package static func syncFile(_ path: String) throws {
    let descriptor = open(path, O_RDONLY)
    guard descriptor >= 0 else { throw failure(path) }
    defer { close(descriptor) }
    guard sync(descriptor) else { throw failure(path) }
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
