import Foundation
import LadderCompute
import TestModels

/// Runs the real `ladder` command that the package builds, as a process of its own.
struct Command {
  struct Result {
    var status: Int32
    var output: String
    var errors: String
    /// The last line on standard error: where an error stands.
    var lastError: String { errors.split(whereSeparator: \.isNewline).last.map(String.init) ?? "" }
    var json: [String: Any] { (try? JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]) ?? [:] }
  }

  static let path: String = {
    let tests = Bundle.main.executableURL ?? URL(fileURLWithPath: CommandLine.arguments[0])
    let beside = tests.deletingLastPathComponent().appendingPathComponent("ladder").path
    if FileManager.default.isExecutableFile(atPath: beside) { return beside }
    var root = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { root.deleteLastPathComponent() }
    return root.appendingPathComponent(".build/debug/ladder").path
  }()

  /// Starts the command without waiting for it; its output goes to files in `folder`.
  /// - Parameters:
  ///   - input: what stands on its standard input.
  ///   - environment: variables besides this process's own.
  ///   - launcher: what starts the command, with its own arguments.
  static func start(
    _ arguments: [String], input: Data? = nil, environment: [String: String] = [:], launcher: [String] = [],
    in folder: TemporaryFolder
  ) throws -> Running {
    let process = Process(), words = launcher + [path] + arguments
    process.executableURL = URL(fileURLWithPath: words[0])
    process.arguments = Array(words.dropFirst())
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let id = UUID().uuidString
    let paths = (folder.file("\(id).out"), folder.file("\(id).err"))
    for path in [paths.0, paths.1] { _ = FileManager.default.createFile(atPath: path, contents: nil) }
    process.standardOutput = FileHandle(forWritingAtPath: paths.0)
    process.standardError = FileHandle(forWritingAtPath: paths.1)
    process.standardInput = FileHandle.nullDevice
    if let input {
      try input.write(to: URL(fileURLWithPath: folder.file("\(id).in")))
      process.standardInput = FileHandle(forReadingAtPath: folder.file("\(id).in"))
    }
    try process.run()
    return Running(process: process, outputPath: paths.0, errorPath: paths.1)
  }

  struct Running {
    let process: Process
    let outputPath: String
    let errorPath: String

    func wait() -> Result {
      process.waitUntilExit()
      func text(_ path: String) -> String { (try? String(contentsOfFile: path, encoding: .utf8)) ?? "" }
      return Result(status: process.terminationStatus, output: text(outputPath), errors: text(errorPath))
    }

    /// Sends `signal` once `condition` holds.
    func signal(_ signal: Int32, when condition: () -> Bool) { when(condition) { _ = kill($0, signal) } }

    /// Calls `act` with the process once `condition` holds; gives up after a minute, so that a broken command fails the
    /// test.
    /// - Returns: whether it came to that.
    @discardableResult
    func when(_ condition: () -> Bool, _ act: (pid_t) -> Void) -> Bool {
      for _ in 0..<12000 where process.isRunning {
        if condition() {
          act(process.processIdentifier)
          return true
        }
        usleep(5000)
      }
      return false
    }
  }

  static func run(
    _ arguments: [String], input: Data? = nil, environment: [String: String] = [:], launcher: [String] = [],
    in folder: TemporaryFolder
  ) throws -> Result {
    try start(arguments, input: input, environment: environment, launcher: launcher, in: folder).wait()
  }
}

/// What a run in this folder left behind.
extension TemporaryFolder {
  func weights(_ run: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: file(run + "/ladder.safetensors")))
  }

  /// Lines of its metrics: steps taken.
  func steps(_ run: String) -> Int {
    ((try? String(contentsOfFile: file(run + "/metrics.jsonl"), encoding: .utf8)) ?? "").split(separator: "\n").count
  }
}
