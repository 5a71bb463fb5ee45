import Foundation
import TestModels
import Testing

/// Where samples and prompts come from: several files, their shares, standard input. The real command.
@Suite(.serialized) struct DataTests {
  let folder: TemporaryFolder
  let model: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
    _ = try folder.write("a.jsonl", BadInputTests.lines(20))
    _ = try folder.write("b.csv", "prompt,completion\nx, yes\ny, no\n")
  }

  private func train(_ more: [String], steps: Int = 2) throws -> Command.Result {
    try Command.run(
      [
        "train", "--model", model, "--out", folder.file("run"), "--device", "CPU", "--batch-size", "4", "--steps",
        String(steps), "--rungs", "1,3",
      ] + more, in: folder)
  }

  @Test func severalFilesWithShares() throws {
    let (a, b) = (folder.file("a.jsonl"), folder.file("b.csv"))
    let data = ["--data", a + ":0.3", "--data", b + ":2", "--valid", b, "--valid", a + ":0.1"]
    let first = try train(data)
    #expect(first.status == 0 && first.errors.contains("10 samples"), "\(first.errors)")
    #expect(first.errors.contains("a.jsonl: 6 of 20 samples") && first.errors.contains("validating on 4 samples"))
    let shown = try Command.run(["inspect", folder.file("run")], in: folder).output
    #expect(shown.contains("\(a):0.3, \(b):2") && shown.contains("\(b), \(a):0.1"), "\(shown)")
    // The same files again go on; another share is another run.
    let more = try train(data + ["--resume"], steps: 3)
    #expect(more.status == 0 && folder.steps("run") == 3, "\(more.errors)")
    let other = try train(["--data", a + ":0.4", "--data", b + ":2", "--valid", b, "--valid", a + ":0.1", "--resume"])
    #expect(other.status == 64 && other.lastError.contains("a.jsonl:0.3") && other.lastError.contains("a.jsonl:0.4"))
  }

  @Test func aFileOfOptionsNamesThemToo() throws {
    let list = try folder.write("list.yaml", "data: [\(folder.file("a.jsonl")):0.5, \(folder.file("b.csv"))]\n")
    let result = try train(["--config", list])
    #expect(result.status == 0 && result.errors.contains("12 samples"), "\(result.errors)")
  }

  @Test func whatIsWrongIsNamed() throws {
    _ = try folder.write("bad.jsonl", "{\"text\": \"a\"}\n{}\n")
    for (data, status, words) in [
      (["a.jsonl", "none.jsonl:0.5"], 66, "none.jsonl"), (["a.jsonl", "bad.jsonl"], 65, "bad.jsonl:2:"),
      (["a.jsonl:0"], 64, "share"),
    ] as [([String], Int32, String)] {
      let result = try train(data.flatMap { ["--data", folder.file($0)] })
      #expect(result.status == status && result.lastError.contains(words), "\(result.errors)")
    }
  }

  @Test func stepsTellTheirTime() throws {
    let data = ["--data", folder.file("a.jsonl"), "--valid", folder.file("b.csv"), "--validate-every", "2"]
    #expect(try train(data, steps: 4).status == 0)
    let text = try String(contentsOfFile: folder.file("run/metrics.jsonl"), encoding: .utf8)
    let lines = text.split(separator: "\n").compactMap {
      try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
    }
    let seconds = lines.compactMap { $0["seconds"] as? Double }
    #expect(lines.count == 4 && seconds.count == 4 && seconds == seconds.sorted() && (seconds.first ?? 0) > 0)
    #expect(lines.map { $0["validation_seconds"] != nil } == [false, true, false, true])
    #expect(lines.allSatisfy { ($0["validation_loss"] != nil) == ($0["validation_seconds"] != nil) })
    // A run that goes on counts on from what it took before.
    #expect(try train(data + ["--resume"], steps: 5).status == 0)
    let last = try #require(
      try String(contentsOfFile: folder.file("run/metrics.jsonl"), encoding: .utf8)
        .split(separator: "\n").last)
    let object = try JSONSerialization.jsonObject(with: Data(last.utf8)) as? [String: Any]
    #expect((object?["seconds"] as? Double ?? 0) > (seconds.last ?? 0))
  }

  private func generate(_ input: [UInt8], _ more: [String] = []) throws -> Command.Result {
    try Command.run(
      ["generate", "--model", model, "--device", "CPU", "--prompt", "-", "--max-tokens", "8"] + more,
      input: Data(input), in: folder)
  }

  @Test func aPipedPromptIsTakenAsItStands() throws {
    let plain = try Command.run(
      ["generate", "--model", model, "--device", "CPU", "--prompt", "abc\\n", "--max-tokens", "8"], in: folder)
    let piped = try generate(Array("abc\n".utf8))
    #expect(plain.status == 0 && piped.status == 0 && piped.output == plain.output, "\(piped.errors)")
    #expect(try generate(Array("abc".utf8)).output != piped.output)
    #expect(try generate(Array("abc\n".utf8), ["--stop", String(plain.output.prefix(1))]).output == "\n")
    for (input, words) in [([], "empty"), ([0x61, 0], "zero byte"), ([0x61, 0xE9], "UTF-8")] as [([UInt8], String)] {
      let result = try generate(input)
      #expect([64, 65].contains(result.status) && result.lastError.contains(words), "\(result.errors)")
      #expect(result.errors.split(separator: "\n").count == 1 && result.output.isEmpty)
    }
    #expect(try generate(Array("a".utf8), ["--stop", ""]).status == 64)
    #expect(try Command.run(["generate", "--help"], in: folder).output.contains("as it stands"))
  }
}
