import Foundation
import LadderCore

/// Appends lines to `metrics.jsonl`.
struct MetricsFile {
  private let handle: FileHandle
  private let path: String

  /// - Parameter bytes: what is kept of an older file: the lines of steps that will not be taken again. Of a file that
  ///   was cut short or removed meanwhile, the whole lines that are left.
  init(_ path: String, keeping bytes: Int) throws {
    if !FileManager.default.fileExists(atPath: path), !FileManager.default.createFile(atPath: path, contents: nil) {
      throw LadderError(.inputOutput, "cannot write \(path): \(String(cString: strerror(errno)))")
    }
    guard let handle = FileHandle(forWritingAtPath: path) else {
      throw Self.unwritable(path)
    }
    self.handle = handle
    self.path = path
    let whole = Self.wholeLines((try? DurableFile.read(path)) ?? Data(), keeping: bytes)
    do {
      try handle.truncate(atOffset: UInt64(whole))
      try handle.seekToEnd()
    } catch { throw Self.unwritable(path) }
  }

  private static func unwritable(_ path: String) -> LadderError {
    LadderError(.inputOutput, "cannot write \(path): check its permissions")
  }

  /// How many bytes the lines take of which `bytes` were kept: the last of them may have grown since (`amendLast`).
  private static func wholeLines(_ contents: Data, keeping bytes: Int) -> Int {
    let end = UInt8(ascii: "\n"), bytes = min(bytes, contents.count)
    if bytes == 0 || contents[bytes - 1] == end { return bytes }
    if let grown = contents[bytes...].firstIndex(of: end) { return grown + 1 }
    return contents[..<bytes].lastIndex(of: end).map { $0 + 1 } ?? 0
  }

  var bytes: Int { Int((try? handle.offset()) ?? 0) }

  func append(_ step: TrainingStep) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    do {
      try handle.write(contentsOf: try encoder.encode(step) + Data("\n".utf8))
    } catch {
      throw LadderError(.inputOutput, "cannot write \(path): the disk may be full; make room and go on with `resume`")
    }
  }

  /// Writes the last step's line anew, over itself. Where the last line is another step's, nothing is written.
  func amendLast(step number: Int, _ change: (inout TrainingStep) -> Void) throws {
    let contents = try DurableFile.read(path)
    let start = contents.dropLast().lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    // Where the file was cut short meanwhile there is no line to amend.
    guard contents.last == UInt8(ascii: "\n"),
      var step = try? JSONDecoder().decode(TrainingStep.self, from: contents[start...]), step.step == number
    else { return }
    change(&step)
    do { try handle.seek(toOffset: UInt64(start)) } catch { throw Self.unwritable(path) }
    try append(step)
    // What a validation that was cut short wrote there may have been longer.
    do { try handle.truncate(atOffset: UInt64(bytes)) } catch { throw Self.unwritable(path) }
  }
}
