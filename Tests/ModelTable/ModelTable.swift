import Foundation
import LadderBackbone
import LadderCore
import TestModels

/// `model-table OUTPUT [WORD]` checks a tiny model of every architecture, or of those whose names hold the word, each
/// in a process of its own, and writes what works. `model-table check NAME` is such a process.
@main enum ModelTable {
  static func main() {
    let arguments = CommandLine.arguments
    do {
      if arguments.count == 3, arguments[1] == "check" {
        try check(arguments[2])
      } else if arguments.count == 2 || arguments.count == 3 {
        try table(arguments[1], word: arguments.count == 3 ? arguments[2] : nil)
      } else {
        throw LadderError(.usage, "model-table OUTPUT [WORD]")
      }
    } catch {
      let error = LadderError(any: error)
      FileHandle.standardError.write(Data("model-table: \(error.message)\n".utf8))
      exit(error.kind.rawValue)
    }
  }

  // MARK: - One model

  /// At once, so that it is out when the process dies.
  private static func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

  /// Prints a line at the beginning and at the end of each stage, so that the last line tells where a process died.
  private static func check(_ name: String) throws {
    guard let architecture = Architectures.named(name) else { throw LadderError(.usage, "no model \(name)") }
    // What hangs is killed.
    alarm(120)
    let folder = try TemporaryFolder()
    let path = folder.file("model.gguf")
    say("begin make")
    do {
      try architecture.write(path)
      say("pass make")
      let traits = ModelTraits(try GGUFFile(path: path)).text
      if !traits.isEmpty { say("has \(traits)") }
    } catch {
      return say("fail make \(LadderError(any: error).message)")
    }
    ModelCheck(path, folder: folder.path).run(
      begins: { say("begin \($0.rawValue)") },
      ends: { stage, error in
        let reason = error?.message.replacingOccurrences(of: path, with: "the model")
        say(reason.map { "fail \(stage.rawValue) \($0)" } ?? "pass \(stage.rawValue)")
      })
  }

  // MARK: - All of them

  private static func table(_ output: String, word: String?) throws {
    let known = Set(Architectures.all.map(\.architecture))
    let unknown = named(in: ".deps/llama.src/src/llama-arch.cpp").filter { !known.contains($0) }
    guard unknown.isEmpty else {
      throw LadderError(.data, "llama.cpp has architectures that Architectures.swift lacks: \(unknown)")
    }
    let chosen = Architectures.all.filter { word == nil || $0.name.contains(word ?? "") }
    let results = try chosen.map { architecture in
      let result = try CheckResult(of: architecture)
      FileHandle.standardError.write(Data((result.line + "\n").utf8))
      return result
    }
    try TableText(results).text.write(toFile: output, atomically: true, encoding: .utf8)
  }

  /// The architectures that llama.cpp's source names, where it is at hand.
  private static func named(in source: String) -> [String] {
    guard let text = try? String(contentsOfFile: source, encoding: .utf8),
      let start = text.range(of: "LLM_ARCH_NAMES = {"), let end = text[start.upperBound...].range(of: "};")
    else { return [] }
    return text[start.upperBound..<end.lowerBound].split(separator: "\n").compactMap { line in
      let parts = line.split(separator: "\"")
      return parts.count > 1 && parts[1] != "(unknown)" ? String(parts[1]) : nil
    }
  }
}
