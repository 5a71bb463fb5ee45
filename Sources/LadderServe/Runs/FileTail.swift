import Foundation

/// The end of a file that another process may be writing.
enum FileTail {
  /// The bytes from a place on, read, not mapped: the file may be cut short meanwhile. Nil where it cannot be read.
  /// - Parameter place: where they begin, given where the file ends.
  static func bytes(_ path: String, from place: (UInt64) -> UInt64) -> Data? {
    guard let handle = FileHandle(forReadingAtPath: path), let end = try? handle.seekToEnd() else { return nil }
    defer { try? handle.close() }
    guard (try? handle.seek(toOffset: place(end))) != nil else { return nil }
    return (try? handle.readToEnd()) ?? Data()
  }
}
