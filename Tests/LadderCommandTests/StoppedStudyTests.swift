import Foundation
import TestModels
import Testing

/// A study that is stopped while it trains: the real command, and real signals.
@Suite(.serialized) struct StoppedStudyTests {
  let folder: TemporaryFolder
  let model: String
  let configuration: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
    let data = try folder.write("samples.jsonl", BadInputTests.lines(48))
    // So few checkpoints that only a run that was stopped has one.
    configuration = try folder.write(
      "study.yaml",
      """
      options: {rungs: "1,3", reduction: 2, batch-size: 4, epochs: 40, checkpoint-every: 100000, device: CPU}
      cost: false
      base: false
      methods: [{name: lst, options: {method: lst}}]
      tasks: [{name: yes-or-no, train: \(data), dev: \(data), metric: loss}]
      """)
  }

  private static let run = "runs/yes-or-no/lst/seed-0"

  private func arguments(_ out: String) -> [String] {
    ["study", "accuracy", "--config", configuration, "--model", model, "--out", folder.file(out), "--json"]
  }

  private func checkpoints(_ out: String) -> [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: folder.file("\(out)/\(Self.run)/checkpoints"))) ?? []
  }

  /// What a study found, times aside.
  private func findings(_ result: Command.Result) throws -> [[Double]] {
    try #require(result.json["rows"] as? [[String: Any]]).map { row in
      [row["mean"], row["loss"], row["examples"], row["parameters"]].compactMap { ($0 as? NSNumber)?.doubleValue }
    }
  }

  @Test func aStoppedStudysRunIsSavedWhereItWasAndGoesOn() throws {
    let whole = try Command.run(arguments("whole"), in: folder)
    #expect(whole.status == 0, "\(whole.errors)")

    // By one process, and by Ctrl-C, which a terminal sends to the whole group of the study.
    for (out, signal, isForGroup) in [("one", SIGTERM, false), ("group", SIGINT, true)] {
      let running = try Command.start(arguments(out), in: folder)
      running.when({ folder.steps("\(out)/\(Self.run)") >= 8 }) { kill(isForGroup ? -$0 : $0, signal) }
      let stopped = running.wait()
      #expect(stopped.status == 130 && stopped.lastError.contains("run the same command again"), "\(stopped.errors)")
      let steps = folder.steps("\(out)/\(Self.run)")
      #expect(steps < 480 && checkpoints(out) == ["step-\(steps)"], "\(steps) steps, \(checkpoints(out))")

      let resumed = try Command.run(arguments(out), in: folder)
      #expect(resumed.status == 0, "\(resumed.errors)")
      #expect(try folder.weights("\(out)/\(Self.run)") == folder.weights("whole/\(Self.run)"))
      #expect(try findings(resumed) == findings(whole))
    }
  }

  @Test func aKilledStudysChildSavesAndEnds() throws {
    let running = try Command.start(arguments("killed"), in: folder)
    running.when({ folder.steps("killed/\(Self.run)") >= 8 }) { kill($0, SIGKILL) }
    #expect(running.wait().status == SIGKILL)
    #expect(childEnds())
    let steps = folder.steps("killed/\(Self.run)")
    #expect(steps < 480 && checkpoints("killed") == ["step-\(steps)"], "\(steps) steps, \(checkpoints("killed"))")
    #expect(try Command.run(arguments("killed"), in: folder).status == 0)
  }

  @Test func aSecondSignalEndsStudyAndChildAtOnce() throws {
    let running = try Command.start(arguments("twice"), in: folder)
    running.when({ folder.steps("twice/\(Self.run)") >= 8 }) {
      kill($0, SIGTERM)
      usleep(10_000)
      kill($0, SIGTERM)
    }
    #expect(running.wait().status == 130)
    #expect(childEnds())
    let again = try Command.run(arguments("twice"), in: folder)
    #expect(again.status == 0, "\(again.errors)")
  }

  /// Waits for the process that trains; gives up after a while.
  private func childEnds() -> Bool {
    for _ in 0..<500 {
      if !Self.isTraining(folder.path) { return true }
      usleep(10_000)
    }
    return false
  }

  /// Whether a process trains into a folder.
  private static func isTraining(_ path: String) -> Bool {
    let process = Process(), output = Pipe()
    process.executableURL = URL(fileURLWithPath: "/bin/ps")
    process.arguments = ["-A", "-o", "stat=,args="]
    process.standardOutput = output
    guard (try? process.run()) != nil else { return false }
    let lines = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return lines.split(separator: "\n").contains { !$0.hasPrefix("Z") && $0.contains(" train ") && $0.contains(path) }
  }
}
