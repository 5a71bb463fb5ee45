import Foundation
import LadderCore
import TestModels

/// What the process that checked one model printed.
struct CheckResult {
  let architecture: TinyArchitecture
  private(set) var traits = ""
  private(set) var passed: Set<ModelCheck.Stage> = []
  private(set) var failed: [ModelCheck.Stage: String] = [:]

  init(of architecture: TinyArchitecture) throws {
    self.architecture = architecture
    let folder = try TemporaryFolder()
    let output = folder.file("output"), errors = folder.file("errors")
    for file in [output, errors] { _ = FileManager.default.createFile(atPath: file, contents: nil) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: CommandLine.arguments[0])
    process.arguments = ["check", architecture.name]
    process.environment = ProcessInfo.processInfo.environment.merging([
      "GGML_NO_BACKTRACE": "1", "SWIFT_BACKTRACE": "enable=no",
    ]) { $1 }
    process.standardOutput = FileHandle(forWritingAtPath: output)
    process.standardError = FileHandle(forWritingAtPath: errors)
    try process.run()
    process.waitUntilExit()
    read(try String(contentsOfFile: output, encoding: .utf8))
    if process.terminationReason == .uncaughtSignal, let stage = begun {
      let last = (try String(contentsOfFile: errors, encoding: .utf8)).split(separator: "\n").last { !$0.isEmpty }
      let isHung = process.terminationStatus == SIGALRM
      failed[stage] = isHung ? "hangs" : "the engine aborts: \(last.map(Self.withoutFolders) ?? "no message")"
    }
  }

  private var begun: ModelCheck.Stage?

  private mutating func read(_ output: String) {
    for line in output.split(separator: "\n") {
      let parts = line.split(separator: " ", maxSplits: 2).map(String.init)
      guard parts.count > 1 else { continue }
      if parts[0] == "has" {
        traits = line.dropFirst(4).description
        continue
      }
      guard let stage = ModelCheck.Stage(rawValue: parts[1]) else { continue }
      switch parts[0] {
      case "begin": begun = stage
      case "pass":
        passed.insert(stage)
        begun = nil
      case "fail":
        failed[stage] = parts.count > 2 ? parts[2] : ""
        begun = nil
      default: break
      }
    }
  }

  /// ggml names its source file with its path.
  private static func withoutFolders(_ line: Substring) -> String {
    let words = line.split(separator: " ", maxSplits: 1)
    guard words.count == 2, let file = words[0].split(separator: "/").last else { return String(line) }
    return "\(file) \(words[1])"
  }

  // MARK: - What it comes to

  var worksForSideNetworks: Bool { passed.isSuperset(of: [.parity, .training, .decoding]) && failed[.sharing] == nil }
  var worksForAdapters: Bool { passed.isSuperset(of: [.adapterParity, .adapterTraining, .adapterServing]) }
  /// Refused in a line that names the architecture.
  var isRefusedByName: Bool { failed[.load]?.contains(architecture.architecture) ?? false }

  private func reason(_ stages: [ModelCheck.Stage]) -> String? {
    stages.lazy.compactMap { stage in failed[stage].map { "\(stage.rawValue): \($0)" } }.first
  }
  var sideReason: String? { reason([.make, .load, .parity, .sharing, .training, .decoding]) }
  var adapterReason: String? { reason([.make, .load, .adapterParity, .adapterTraining, .adapterServing]) }

  /// For a reader of the log.
  var line: String {
    "\(architecture.name): LST \(worksForSideNetworks ? "yes" : sideReason ?? "no"), "
      + "QLoRA \(worksForAdapters ? "yes" : adapterReason ?? "no")"
  }
}
