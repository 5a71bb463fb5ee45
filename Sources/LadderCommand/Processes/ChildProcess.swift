import Foundation
import Ladder

/// A command in a process of its own.
///
/// Foundation gives it a process group of its own, so that Ctrl-C on a terminal reaches this process alone: it passes a
/// cancellation on, once, and the child saves its state. A child that watches its parent (`ParentWatch`) stops so too
/// where this process was killed.
enum ChildProcess {
  struct Ended {
    var output: Data
    var status: Int32
    /// On its standard error.
    var lastLine: String
  }

  /// Runs a program to its end, both of its streams read as they come.
  ///
  /// Where the task is cancelled, the child is sent SIGTERM once, and waited for.
  /// - Parameter progress: called with each line on the child's standard error.
  static func run(_ program: URL?, _ arguments: [String], progress: (String) -> Void) throws -> Ended {
    let process = Process(), output = Pipe(), errors = Pipe()
    process.executableURL = program
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(ParentWatch.environment) { $1 }
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = FileHandle.nullDevice
    do { try process.run() } catch {
      throw LadderError(.engine, "cannot start \(program?.path ?? "the program"): \(error.localizedDescription)")
    }
    running.add(process.processIdentifier)
    defer {
      running.remove(process.processIdentifier)
      withExtendedLifetime((output, errors)) {}
    }

    var ended = Ended(output: Data(), status: 0, lastLine: ""), line = Data(), isPassedOn = false
    let outputStream = output.fileHandleForReading.fileDescriptor
    var open = [outputStream, errors.fileHandleForReading.fileDescriptor]
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while !open.isEmpty {
      if Task.isCancelled, !isPassedOn {
        process.terminate()
        isPassedOn = true
      }
      var polled = open.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
      guard poll(&polled, nfds_t(polled.count), 100) > 0 else { continue }
      for stream in polled where stream.revents != 0 {
        let count = read(stream.fd, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        if count <= 0 {
          open.removeAll { $0 == stream.fd }
        } else if stream.fd == outputStream {
          ended.output.append(contentsOf: buffer[..<count])
        } else {
          line.append(contentsOf: buffer[..<count])
          while let end = line.firstIndex(of: UInt8(ascii: "\n")) {
            ended.lastLine = String(decoding: line[..<end], as: UTF8.self)
            line = Data(line[(end + 1)...])
            progress(ended.lastLine)
          }
        }
      }
    }
    if !line.isEmpty {
      ended.lastLine = String(decoding: line, as: UTF8.self)
      progress(ended.lastLine)
    }
    process.waitUntilExit()
    ended.status = process.terminationStatus
    return ended
  }

  /// Ends the children that run, at once.
  static func killAll() { for child in running.all { kill(child, SIGKILL) } }

  private static let running = RunningProcesses()
}

private final class RunningProcesses: @unchecked Sendable {
  private let lock = NSLock()
  private var identifiers: Set<pid_t> = []

  var all: Set<pid_t> { lock.withLock { identifiers } }
  func add(_ identifier: pid_t) { lock.withLock { _ = identifiers.insert(identifier) } }
  func remove(_ identifier: pid_t) { lock.withLock { _ = identifiers.remove(identifier) } }
}
