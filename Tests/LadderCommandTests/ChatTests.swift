import CLlama
import Foundation
import TestModels
import Testing

/// The chat, with lines from a pipe and on a terminal.
@Suite(.serialized) struct ChatTests {
  let folder: TemporaryFolder
  let model: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model("chat.gguf") { model in
      model.type = GGML_TYPE_F32
      model.chatTemplate =
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
        + "{% if add_generation_prompt %}<assistant>{% endif %}"
    }
  }

  private var common: [String] {
    ["--model", model, "--device", "CPU", "--threads", "1", "--max-tokens", "6", "--temperature", "0"]
  }

  private func chat(_ lines: [String], _ more: [String] = []) throws -> Command.Result {
    try Command.run(["chat"] + common + more, input: Data((lines.joined(separator: "\n") + "\n").utf8), in: folder)
  }

  private func train(_ name: String, _ completion: String) throws -> String {
    let data = folder.file(name + ".jsonl")
    try (0..<16).map { #"{"prompt": "text \#($0)", "completion": "\#(completion)"}"# }.joined(separator: "\n")
      .write(toFile: data, atomically: true, encoding: .utf8)
    let result = try Command.run(
      [
        "train", "--model", model, "--data", data, "--out", folder.file(name), "--steps", "12", "--batch-size", "4",
        "--learning-rate", "2e-2", "--rungs", "1,3", "--reduction", "2", "--head-size", "16", "--device", "CPU",
      ], in: folder)
    #expect(result.status == 0, "\(result.errors)")
    return folder.file(name)
  }

  private func generate(_ prompt: String, _ more: [String] = []) throws -> String {
    let result = try Command.run(["generate", "--prompt", prompt] + common + more, in: folder)
    #expect(result.status == 0, "\(result.errors)")
    return result.output
  }

  @Test func turnsCommandsAndFiles() throws {
    let first = try generate("hi", ["--chat"])
    let result = try chat([
      "hi", "/save \(folder.file("kept.jsonl"))", "again", "/undo", "again", "/nonsense", "", "/quit", "x",
    ])
    #expect(result.status == 0, "\(result.errors)")
    let said = result.output.dropLast()
    #expect(said.hasPrefix(first))
    let second = try generate("<user>hi</><assistant>\(first.dropLast())</><user>again</><assistant>")
    #expect(result.output == first + second + second)
    #expect(result.errors.contains("/nonsense") && result.errors.split(separator: "\n").count == 1)
    // What is kept is a sample, and goes on where it ended.
    let data = try Command.run(["data", "--model", model, "--data", folder.file("kept.jsonl")], in: folder)
    #expect(data.status == 0, "\(data.errors)")
    let told = try Command.run(["data", "--model", model, "--data", folder.file("kept.jsonl"), "--json"], in: folder)
    let shown = (told.json["shown"] as? [[String: Any]])?.first?["sequences"] as? [[String: Any]]
    #expect(told.json["samples"] as? Int == 1 && shown?.last?["learned"] is [Int], "\(told.output)")
    let later = try chat(["/load \(folder.file("kept.jsonl"))", "again", "/load \(folder.file("none"))"])
    #expect(later.output == second && later.status == 0 && later.lastError.contains("no file at"))
    let briefly = try chat(["/system be brief", "hi"], ["--system", "be long"])
    #expect(briefly.output == (try generate("<system>be brief</><user>hi</><assistant>")))
  }

  @Test func runsAnswerInTurnAndSideBySide() throws {
    let one = try train("one", " one more"), two = try train("two", " and two")
    let prompt = "text 3", base = try generate(prompt), own = try generate(prompt, ["--adapter", one]),
      other = try generate(prompt, ["--adapter", two])
    #expect(Set([base, own, other]).count == 3)
    let turns = try chat(
      [prompt, "/base", prompt, "/ladder \(two)", prompt, "/ladder one", prompt, "/ladders", "/ladder none"],
      ["--plain", "--adapter", one])
    #expect(turns.status == 0, "\(turns.errors)")
    #expect(turns.output == own + base + other + own + "base\none\ntwo\n")
    #expect(turns.lastError.contains("none is not a run"))
    let both = try chat([prompt], ["--plain", "--adapter", one, "--compare"])
    #expect(both.output == "base: \(base)one: \(own)")
    for arguments in [["--compare"], ["--max-tokens", "0"], ["--context", "3"], ["--min-p", "2"]] {
      #expect(try Command.run(["chat", "--model", model] + arguments, in: folder).status == 64)
    }
    #expect(try Command.run(["chat", "--model", model, "--adapter", "none"], in: folder).status == 66)
    let untemplated = try folder.model("plain.gguf")
    #expect(try Command.run(["chat", "--model", untemplated, "--device", "CPU"], in: folder).status == 65)
  }

  /// util-linux's, which takes a command.
  private static var hasScript: Bool {
    #if os(Linux)
      FileManager.default.isExecutableFile(atPath: "/usr/bin/script")
    #else
      false
    #endif
  }

  /// With a terminal's other end in the test: editing, history, and Ctrl-C.
  @Test(.enabled(if: hasScript)) func onATerminal() throws {
    let keys = "hj\u{7F}i\n\u{1B}[A\n/quit\n", command = (["chat"] + common).map { "'\($0)'" }.joined(separator: " ")
    let process = Process(), input = Pipe(), output = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/script")
    process.arguments = ["-qec", "'\(Command.path)' \(command)", "/dev/null"]
    process.standardInput = input
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    // The keys come once the prompt is there.
    var seen = ""
    for key in keys.split(separator: "\n") {
      let prompts = seen.components(separatedBy: "base> ").count
      while seen.components(separatedBy: "base> ").count == prompts {
        let more = output.fileHandleForReading.availableData
        if more.isEmpty { break }
        seen += String(decoding: more, as: UTF8.self)
      }
      try input.fileHandleForWriting.write(contentsOf: Data((key + "\n").utf8))
    }
    let rest = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    seen += String(decoding: rest, as: UTF8.self)
    let first = try generate("hi", ["--chat"]).dropLast(),
      second = try generate("<user>hi</><assistant>\(first)</><user>hi</><assistant>").dropLast()
    #expect(process.terminationStatus == 0)
    let shown = seen.replacingOccurrences(of: "\r", with: "")
    #expect(shown.contains("\(first)\n") && shown.contains("\(second)\n"), "\(shown.debugDescription)")
  }
}
