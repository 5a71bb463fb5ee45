import Foundation
import LadderCore
import LadderStudy
import TestModels
import Testing

@testable import LadderCommand

/// Whatever a configuration file holds, it is read or refused in one line.
@Suite(.serialized) struct ConfigurationFuzzTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func read<Value: Decodable>(_ type: Value.Type, _ bytes: [UInt8]) throws -> LadderError? {
    let path = folder.file("mutant.yaml")
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    do {
      _ = try ConfigurationFile.read(type, path: path)
      return nil
    } catch let error as LadderError {
      return error
    }
  }

  static let training = """
    # a run
    model: model.gguf
    data: "train.jsonl"
    epochs: 2.5
    rungs: [1, 3]
    learning-rate: 3e-4
    method: lst
    resume: true
    seed: 18446744073709551615
    cache-limit: 20GB
    """
  static let study = """
    model: model.gguf
    seeds: [1, 2, 3]
    methods:
      - name: lst
        options: {rungs: all}
      - name: qlora
        options: {method: qlora, rank: 4}
    tasks:
      - name: sst2
        train: a.jsonl
        dev: b.jsonl
    """
  static let words = [
    "[", "]", "{", "}", ",", ": ", "- ", "? ", "\"", "'", "\n", "\t", "&a ", "*a", "!!float ", "!!binary ", "| ", "> ",
    "---\n", "...\n", "%YAML 9.9\n", "<<: ", "null", "~", ".inf", ".nan", "0x7fffffffffffffffff", "1e999", "-1",
    "\u{FEFF}", "\u{2028}", "2001-01-01", "epochs: ", "rungs: ",
  ]

  @Test func changedFiles() throws {
    var taken = 0, refused = 0
    let files = [Self.training, Self.study].map { Array($0.utf8) }
    try Mutations.forEach(of: files, words: Self.words) { bytes in
      for error in [try read(TrainingFile.self, bytes), try read(StudyConfiguration.self, bytes)] {
        if let error {
          refused += 1
          #expect([.data, .usage].contains(error.kind) && !error.message.contains("\n"), "\(error)")
        } else {
          taken += 1
        }
      }
    }
    #expect(taken > 100 && refused > 100, "\(taken) taken, \(refused) refused")
  }

  /// Deep nesting, and references that stand for more than any memory holds.
  @Test func filesThatUnfoldWithoutEnd() throws {
    let depth = 100_000
    for text in [
      "rungs: " + String(repeating: "[", count: depth), "rungs: " + String(repeating: "{a: ", count: depth),
      "rungs:\n" + String(repeating: "- ", count: depth) + "1", String(repeating: "? ", count: depth) + "1",
      "rungs: " + String(repeating: "[", count: depth) + "1" + String(repeating: "]", count: depth),
    ] {
      #expect(try read(TrainingFile.self, Array(text.utf8))?.kind == .data, "\(text.prefix(20))")
    }
    let names = ["base-model", "cache", "data", "device", "model", "out", "valid", "warm-start"]
    var bomb = ""
    for (level, name) in names.enumerated() {
      let parts = [String](repeating: level == 0 ? "1" : "*a\(level - 1)", count: 100).joined(separator: ",")
      bomb += "\(name): &a\(level) [\(parts)]\n"
    }
    let error = try read(TrainingFile.self, Array(bomb.utf8))
    #expect(error?.kind == .data && error?.message.contains("not a plain value") == true)
  }
}
