import Foundation
import Ladder

/// This same command in a process of its own: what is measured there is nobody else's.
enum ChildProcess {
  /// - Parameter progress: called with each line on the child's standard error.
  /// - Returns: its standard output.
  /// - Throws: the child's own error, with its last line and its status; `interrupted` once it has stopped where this
  ///   task is cancelled.
  static func run(_ arguments: [String], progress: (String) -> Void = { _ in }) throws -> Data {
    let process = Process(), output = Pipe(), errors = Pipe()
    process.executableURL = Bundle.main.executableURL
    process.arguments = arguments
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = FileHandle.nullDevice
    try process.run()
    var last = "", pending = Data()
    while true {
      let part = errors.fileHandleForReading.availableData
      if part.isEmpty { break }
      pending.append(part)
      while let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
        last = String(decoding: pending[pending.startIndex..<end], as: UTF8.self)
        pending = Data(pending[pending.index(after: end)...])
        progress(last)
      }
      if Task.isCancelled { process.interrupt() }
    }
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let status = process.terminationStatus
    if status == 0 { return data }
    if Task.isCancelled {
      throw LadderError(.interrupted, "interrupted; what is done is kept, run the same command again to go on")
    }
    let message =
      last.hasPrefix("ladder: ") ? String(last.dropFirst(8)) : "a process of its own failed (status \(status)): \(last)"
    throw LadderError(
      LadderError.Kind(rawValue: status) ?? .engine, "\(message) (ladder \(arguments.joined(separator: " ")))")
  }
}
