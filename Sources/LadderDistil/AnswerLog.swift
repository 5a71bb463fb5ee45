import Foundation
import LadderCore

/// The answers so far, as lines of `OUT.part`: the first says what they are answers to, so that only the same is gone on
/// with.
final class AnswerLog: @unchecked Sendable {
  /// What decides the answers.
  struct Header: Codable, Equatable {
    var teacher: String
    var prompts: String
    var settings: String
  }

  struct Entry: Codable {
    var prompt: Int
    var draw: Int
    /// Nil where the teacher refused.
    var answer: TeacherAnswer?
    var refusal: String?
  }

  private let path: String
  private let descriptor: Int32
  /// By prompt and draw.
  private(set) var entries: [[Int]: Entry] = [:]

  /// - Throws: `usage` where the file holds answers to something else.
  init(_ path: String, _ header: Header) throws {
    self.path = path
    descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw Self.failure(path) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      throw LadderError(.usage, "another process writes \(path); wait for it")
    }
    let data = try DurableFile.read(path)
    // A line that a kill cut short is asked again.
    let whole = data.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 - data.startIndex } ?? 0
    let lines = data.prefix(whole).split(separator: UInt8(ascii: "\n"))
    guard let first = lines.first else {
      guard data.isEmpty || data.starts(with: Data("{".utf8)) && data.count < 1 << 16 else {
        throw LadderError(.usage, "\(path) is no earlier try of this; remove it, or name another file as `out`")
      }
      guard ftruncate(descriptor, 0) == 0 else { throw Self.failure(path) }
      try append(header)
      return
    }
    guard let earlier = try? JSONDecoder().decode(Header.self, from: Data(first)) else {
      throw LadderError(.usage, "\(path) is no earlier try of this; remove it, or name another file as `out`")
    }
    if let difference = Self.difference(earlier, header) {
      throw LadderError(
        .usage, "\(path) holds answers that were made with \(difference); remove it to begin anew, or go on as then")
    }
    guard ftruncate(descriptor, off_t(whole)) == 0 else { throw Self.failure(path) }
    for line in lines.dropFirst() {
      guard let entry = try? JSONDecoder().decode(Entry.self, from: Data(line)) else { continue }
      entries[[entry.prompt, entry.draw]] = entry
    }
  }

  deinit { close(descriptor) }

  private static func difference(_ a: Header, _ b: Header) -> String? {
    if a.teacher != b.teacher { return "another teacher (\(a.teacher.shown))" }
    if a.prompts != b.prompts { return "other prompts" }
    return a.settings == b.settings ? nil : "other settings (\(a.settings.shown))"
  }

  func add(_ entry: Entry) throws {
    try append(entry)
    entries[[entry.prompt, entry.draw]] = entry
  }

  /// Removes the file.
  func remove() { unlink(path) }

  private func append(_ value: some Encodable) throws {
    let bytes = [UInt8](try JSONEncoder().encode(value)) + [UInt8(ascii: "\n")]
    var offset = 0
    while offset < bytes.count {
      let written = bytes.withUnsafeBytes {
        write(descriptor, $0.baseAddress.map { $0 + offset }, bytes.count - offset)
      }
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw Self.failure(path) }
      offset += written
    }
  }

  private static func failure(_ path: String) -> LadderError {
    LadderError(.inputOutput, "cannot write \(path): \(String(cString: strerror(errno)))")
  }
}
