import Foundation
import TestModels
import Testing

/// Nothing that was saved is lost, and nothing else is trained than what the run began with: the real command, stopped
/// and hindered.
@Suite(.serialized) struct ResumeTests {
  let folder: TemporaryFolder
  let model: String
  let data: String
  let valid: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
    data = try folder.write("train.jsonl", BadInputTests.lines(96))
    valid = try folder.write("valid.jsonl", BadInputTests.lines(40))
  }

  private func arguments(
    _ run: String, _ more: [String] = [], data: String? = nil, valid: String? = nil
  ) -> [String] {
    [
      "train", "--model", model, "--data", data ?? self.data, "--valid", valid ?? self.valid, "--out", folder.file(run),
      "--device", "CPU",
      "--batch-size", "4", "--epochs", "2",
      "--learning-rate", "2e-3", "--validate-every", "6", "--checkpoint-every", "9",
    ] + more
  }

  private func train(_ run: String, _ more: [String] = []) throws -> Command.Result {
    try Command.run(arguments(run, more), in: folder)
  }

  private func checkpoint(_ run: String) throws -> String {
    try #require(try FileManager.default.contentsOfDirectory(atPath: folder.file("\(run)/checkpoints")).first)
  }

  @Test func aSignalDuringValidationLosesNothing() throws {
    let whole = try train("whole")
    #expect(whole.status == 0, "\(whole.errors)")
    for round in 0..<3 {
      let running = try Command.start(arguments("cut", round == 0 ? [] : ["--resume"]), in: folder)
      // The line that says so comes before the first sample is validated.
      running.signal(round == 1 ? SIGUSR1 : SIGTERM) {
        let said = (try? String(contentsOfFile: running.errorPath, encoding: .utf8)) ?? ""
        return said.contains("validating")
      }
      let stopped = running.wait()
      #expect(stopped.status == 130 && stopped.lastError.contains("state is saved"), "\(stopped.errors)")
    }
    let resumed = try train("cut", ["--resume"])
    #expect(resumed.status == 0, "\(resumed.errors)")
    #expect(try folder.weights("cut") == folder.weights("whole"))
    #expect(folder.steps("cut") == 48)
  }

  /// `LADDER_TEST_KILLS` sets how often; a third of them let the process save.
  @Test func killedAtAnyMomentARunEndsWithTheSameWeights() throws {
    let kills = ProcessInfo.processInfo.environment["LADDER_TEST_KILLS"].flatMap { Int($0) } ?? 8
    let shape = ["--checkpoint-every", "2", "--epochs", String(3 * kills)],
      options = shape + ["--cache", folder.file("cache")]
    #expect(try train("whole", shape + ["--cache", folder.file("other")]).status == 0)
    var random = SystemRandomNumberGenerator(), finished = false, ends: [Int32: Int] = [:]
    for kill in 0..<kills where !finished {
      let running = try Command.start(arguments("cut", options + ["--resume"]), in: folder)
      let moment = ContinuousClock.now + .milliseconds(Int.random(in: 20...600, using: &random))
      running.signal(kill % 3 == 2 ? SIGTERM : SIGKILL) { ContinuousClock.now > moment }
      let result = running.wait()
      finished = result.status == 0
      ends[result.status, default: 0] += 1
      // A process that has not begun to listen for signals has nothing to save.
      #expect([0, 130, SIGKILL, SIGTERM].contains(result.status), "\(result.errors)")
    }
    #expect(ends.filter { $0.key != 0 }.values.reduce(0, +) * 2 > kills, "\(ends)")
    let resumed = try train("cut", options + ["--resume"])
    #expect(resumed.status == 0, "\(resumed.errors)")
    #expect(try folder.weights("cut") == folder.weights("whole"))
    #expect(folder.steps("cut") == 24 * 3 * kills)
    if kills > 8 { print("ended by status: \(ends)") }
  }

  @Test func whatIsLeftOfAFolderIsEnough() throws {
    #expect(try train("whole").status == 0)
    let half = ["--resume"]
    func stopped() throws {
      let running = try Command.start(arguments("cut"), in: folder)
      running.signal(SIGTERM) { folder.steps("cut") >= 20 }
      #expect(running.wait().status == 130)
    }
    func goesOn() throws {
      let resumed = try train("cut", half)
      #expect(resumed.status == 0 && resumed.errors.contains("resuming after step"), "\(resumed.errors)")
      #expect(try folder.weights("cut") == folder.weights("whole"))
      try FileManager.default.removeItem(atPath: folder.file("cut"))
    }
    // Without its metrics, and with half a line of them.
    try stopped()
    try FileManager.default.removeItem(atPath: folder.file("cut/metrics.jsonl"))
    try goesOn()
    try stopped()
    let metrics = try Data(contentsOf: URL(fileURLWithPath: folder.file("cut/metrics.jsonl")))
    try metrics.prefix(metrics.count / 2).write(to: URL(fileURLWithPath: folder.file("cut/metrics.jsonl")))
    try goesOn()
    // A checkpoint whose renaming was cut short, beside one that is broken.
    for name in ["tmp", "old"] {
      try stopped()
      let checkpoint = folder.file("cut/checkpoints/") + (try checkpoint("cut"))
      try FileManager.default.moveItem(atPath: checkpoint, toPath: "\(checkpoint).\(name)")
      try FileManager.default.createDirectory(
        atPath: folder.file("cut/checkpoints/step-47"), withIntermediateDirectories: true)
      try goesOn()
    }
  }

  @Test func aStartThatFailsLeavesTheFolderUsable() throws {
    let short = try train("run", ["--max-length", "2"])
    #expect(short.status == 65, "\(short.errors)")
    let fits = try train("run")
    #expect(fits.status == 0, "\(fits.errors)")
    #expect(try train("run").status == 64)
  }

  @Test func aResumedRunIsMadeFromWhatItBeganWith() throws {
    let running = try Command.start(arguments("cut"), in: folder)
    running.signal(SIGTERM) { folder.steps("cut") >= 8 }
    #expect(running.wait().status == 130)
    let other = try folder.write("other.jsonl", BadInputTests.lines(95))
    for (data, valid, name) in [(other, nil, "training samples"), (nil, other, "validation samples")] {
      let refused = try Command.run(arguments("cut", ["--resume"], data: data, valid: valid), in: folder)
      #expect(refused.status == 64 && refused.lastError.contains(name), "\(refused.errors)")
    }
    let copied = try folder.write("copied.jsonl", BadInputTests.lines(96))
    #expect(try Command.run(arguments("cut", ["--resume"], data: copied), in: folder).status == 0)
  }

  /// A chat template that writes the date writes that of the run's beginning, so that a run goes on the day after.
  @Test func aRunKeepsTheDateOfItsBeginning() throws {
    let dated = try folder.model("dated.gguf") {
      $0.chatTemplate =
        "{{ strftime_now('%Y-%m-%d') }}{% for m in messages %}{{ '<' + m.role + '>' + m.content + '</s>' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    }
    let turn = { (role: String, text: String) in "{\"role\": \"\(role)\", \"content\": \"\(text)\"}" }
    let talk = try folder.write("talk.jsonl", "{\"messages\": [\(turn("user", "a")), \(turn("assistant", "b"))]}\n")
    let command = { (steps: Int) in
      [
        "train", "--model", dated, "--data", talk, "--out", folder.file("run"), "--device", "CPU", "--resume",
        "--steps",
        "\(steps)",
      ]
    }
    #expect(try Command.run(command(1), in: folder).status == 0)
    let manifest = URL(fileURLWithPath: folder.file("run/ladder.json"))
    var settings = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: manifest)) as? [String: Any])
    let began = try #require(settings["began"] as? Double)
    // As if it had begun two days before, when its samples were others.
    settings["began"] = began - 2 * 86400
    try JSONSerialization.data(withJSONObject: settings).write(to: manifest)
    let moved = try Command.run(command(2), in: folder)
    #expect(moved.status == 64 && moved.lastError.contains("training samples"), "\(moved.errors)")
    settings["began"] = began
    try JSONSerialization.data(withJSONObject: settings).write(to: manifest)
    #expect(try Command.run(command(2), in: folder).status == 0)
  }

  @Test func twoRunsIntoOneFolder() throws {
    let running = try Command.start(arguments("run", ["--epochs", "20"]), in: folder)
    var second: Command.Result?
    running.signal(SIGTERM) {
      guard folder.steps("run") >= 2 else { return false }
      second = try? train("run", ["--epochs", "20", "--resume"])
      return true
    }
    #expect(running.wait().status == 130)
    #expect(second?.status == 64 && second?.lastError.contains("another process") == true, "\(second?.errors ?? "")")
  }

  @Test func aFinishedRunGoesOnForLonger() throws {
    #expect(try train("run").status == 0)
    let longer = try train("run", ["--resume", "--epochs", "3"])
    #expect(longer.status == 0 && folder.steps("run") == 72, "\(longer.errors)")
    #expect(try train("run", ["--resume", "--epochs", "4", "--learning-rate", "1e-3"]).status == 64)
  }

  @Test func numbersThatNoMachineHoldsGetALine() throws {
    for option in [
      ["--epochs", "1e30"], ["--steps", "9000000000000000000"], ["--batch-size", "900000000000000000"],
      ["--max-length", "9000000000000000000"],
      ["--micro-batch", "9000000000000000000"], ["--checkpoint-every", "9000000000000000000"],
    ] {
      let refused = try train("huge", option)
      #expect(refused.status == 64 && refused.lastError.contains(option[0]), "\(option): \(refused.errors)")
    }
    let text = try Command.run(
      ["generate", "--model", model, "--prompt", "abc", "--max-tokens", "9000000000000000000", "--device", "CPU"],
      in: folder)
    #expect(text.status == 64, "\(text.errors)")
  }
}
