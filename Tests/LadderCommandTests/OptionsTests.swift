import Foundation
import LadderCore
import TestModels
import Testing

@testable import LadderCommand

/// The options of the command are those of the library, in a file and on the command line.
@Suite(.serialized) struct OptionsTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func read(_ yaml: String) throws -> TrainingFile {
    try ConfigurationFile.read(TrainingFile.self, path: try folder.write("options.yaml", yaml))
  }

  @Test func everyOptionOfTheLibraryIsTheCommands() throws {
    let help = try Command.run(["train", "--help"], in: folder).output
    for field in TrainingFile.fields { #expect(help.contains("--\(field.name)"), "\(field.name)") }
  }

  @Test func aFileSaysWhatTheCommandLineWould() throws {
    let file = try read(
      """
      data: ["train.jsonl:0.3", "a, b.jsonl"]
      valid: dev.jsonl
      epochs: 2
      learning_rate: 5e-4
      rungs: [3, 6]
      output-bias: on
      checkpointing: "off"
      exact-gradient: yes
      resume: true
      cache-limit: 20GB
      cache_format: q8_0
      threads: 2
      """)
    let arguments = file.arguments
    #expect(
      arguments == [
        "--cache-format=q8_0", "--cache-limit=20GB", "--checkpointing=off", "--data=train.jsonl:0.3",
        "--data=a, b.jsonl", "--epochs=2",
        "--exact-gradient", "--learning-rate=0.0005", "--output-bias=on", "--resume", "--rungs=3,6", "--threads=2",
        "--valid=dev.jsonl",
      ])
    let parsed = try #require(try LadderCommand.parseAsRoot(["train"] + arguments) as? Train)
    #expect(parsed.given == file)
    #expect(try read("") == TrainingFile() && read("# nothing\n") == TrainingFile())
    #expect(try read("valid: null\ncache:\nepochs: ~\n") == TrainingFile())
  }

  @Test func aBadFileGetsALineThatNamesIt() throws {
    for (yaml, words) in [
      ("schedule: foo\n", "cosine, linear or constant"), ("epoch-count: 3\n", "no option is called epoch-count"),
      ("- epochs\n", "not a mapping"), ("epochs: {a: 1}\n", "epochs is not a plain value"), ("epochs: [1\n", "YAML"),
    ] {
      let error = #expect(throws: LadderError.self) { try read(yaml) }
      #expect(error?.message.contains("options.yaml") == true, "\(error?.message ?? "")")
      #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }
  }
}
