import Foundation
import LadderTrain
import TestModels
import Testing

/// `mpirun ladder train`, over the MPI libraries that bootstrap installs.
@Suite(.serialized, .enabled(if: FileManager.default.fileExists(atPath: "/proc/self"), "Linux alone"))
struct RanksCommandTests {
  let folder: TemporaryFolder
  let arguments: [String]
  init() throws {
    folder = try TemporaryFolder()
    let data = folder.file("data.jsonl")
    let lines = (0..<60).map { #"{"prompt": "question \#($0) of many:", "completion": " answer \#($0 % 7)"}"# }
    try Data(lines.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: data))
    arguments = [
      "train", "--model", try folder.model(), "--data", data, "--device", "CPU", "--threads", "1", "--batch-size", "6",
      "--micro-batch", "1", "--tap-dropout", "0", "--exact-gradient", "--rungs", "1,3", "--reduction", "2",
      "--head-size", "16", "--learning-rate", "1e-3", "--epochs", "3", "--checkpoint-every", "2",
    ]
  }

  enum Library: String, CaseIterable, Sendable {
    case mpich, standard, openmpi

    private var place: String {
      var root = URL(fileURLWithPath: #filePath)
      for _ in 0..<3 { root.deleteLastPathComponent() }
      return root.path + "/.deps/mpi/" + (self == .openmpi ? "openmpi" : "mpich")
    }

    func launcher(_ ranks: Int) -> [String] {
      // What waits for ever ends the test alone.
      ["/usr/bin/timeout", "-k", "5", "300", place + "/bin/mpiexec", "-n", "\(ranks)"]
        + (self == .openmpi ? ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"] : [])
    }

    var environment: [String: String] {
      let path = place + "/bin:" + (ProcessInfo.processInfo.environment["PATH"] ?? "")
      switch self {
      case .mpich: return ["PATH": path]
      case .standard: return ["PATH": path, "LADDER_MPI": place + "/lib/libmpi_abi.so.1"]
      case .openmpi: return ["PATH": path, "OPAL_PREFIX": place]
      }
    }
  }

  private func losses(_ run: String) throws -> [Float] {
    try RunDirectory(folder.file(run)).metrics().map(\.loss)
  }

  private func expectAlike(_ run: String, _ other: String) throws {
    let (a, b) = (try losses(run), try losses(other))
    // Over hundreds of steps the order of sums adds up.
    let early = zip(a, b).prefix(60)
    #expect(a.count == b.count && !a.isEmpty && early.allSatisfy { abs($0 - $1) < 5e-3 }, "\(early)")
  }

  private func lines(_ errors: String) -> [String] {
    errors.split(separator: "\n").map(String.init).filter { $0.hasPrefix("ladder: ") }
  }

  @Test(arguments: Library.allCases) func processesLearnWhatOneLearns(_ library: Library) throws {
    let alone = try Command.run(arguments + ["--out", folder.file("alone")], in: folder)
    #expect(alone.status == 0, "\(alone.errors)")
    let together = try Command.run(
      arguments + ["--out", folder.file("together")], environment: library.environment, launcher: library.launcher(3),
      in: folder)
    #expect(together.status == 0, "\(together.errors)")
    // One of them speaks.
    let told = together.errors.split(separator: "\n").filter { $0.hasPrefix("3 processes over ") }
    #expect(told.count == 1 && together.output == folder.file("together") + "\n", "\(together.errors)")
    try expectAlike("alone", "together")
  }

  @Test(arguments: [Library.mpich, .openmpi]) func oneThatIsKilledEndsAll(_ library: Library) throws {
    let longer = arguments + ["--epochs", "12"], out = ["--out", folder.file("run")]
    let alone = try Command.run(longer + ["--out", folder.file("alone")], in: folder)
    #expect(alone.status == 0, "\(alone.errors)")
    let running = try Command.start(
      longer + out, environment: library.environment, launcher: library.launcher(3), in: folder)
    let isKilled = running.when({ folder.steps("run") > 20 }) { _ in
      let found = children(of: folder.file("run"))
      #expect(found.count == 3)
      if let last = found.last { _ = kill(last, SIGKILL) }
    }
    let result = running.wait()
    #expect(isKilled)
    #expect(result.status != 0 && lines(result.errors).count <= 1, "\(result.errors)")
    for _ in 0..<300 where !children(of: folder.file("run")).isEmpty { usleep(100_000) }
    #expect(children(of: folder.file("run")).isEmpty)
    let again = try Command.run(
      longer + out + ["--resume"], environment: library.environment, launcher: library.launcher(2), in: folder)
    #expect(again.status == 0 && again.errors.contains("resuming after step"), "\(again.errors)")
    try expectAlike("alone", "run")
  }

  @Test func whatIsWrongIsToldOnce() throws {
    let library = Library.mpich
    func run(_ more: String...) throws -> Command.Result {
      try Command.run(
        arguments + more, environment: library.environment, launcher: library.launcher(3), in: folder)
    }
    let setting = try run("--rungs", "99", "--out", folder.file("run"))
    #expect(setting.status != 0 && lines(setting.errors).count == 1, "\(setting.errors)")
    let missing = try run("--data", folder.file("none.jsonl"), "--out", folder.file("run"))
    #expect(missing.status != 0 && lines(missing.errors).count == 1, "\(missing.errors)")
    #expect(lines(missing.errors).first?.contains("none.jsonl") == true)
    #expect(!FileManager.default.fileExists(atPath: folder.file("run")))
    var environment = library.environment
    environment["LADDER_MPI"] = folder.file("libmpi.so")
    let library99 = try Command.run(
      arguments + ["--out", folder.file("run")], environment: environment, launcher: library.launcher(2), in: folder)
    #expect(library99.status != 0 && library99.errors.contains("LADDER_MPI"), "\(library99.errors)")
  }

  /// Processes that train into a folder.
  private func children(of run: String) -> [pid_t] {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return all.compactMap { pid_t($0) }.filter { process in
      guard let line = try? Data(contentsOf: URL(fileURLWithPath: "/proc/\(process)/cmdline")) else { return false }
      let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      return words.first == Command.path && words.contains(run)
    }.sorted()
  }
}
