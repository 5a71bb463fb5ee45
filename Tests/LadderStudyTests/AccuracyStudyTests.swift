import Foundation
import LadderCore
import TestModels
import Testing

@testable import LadderStudy

@Suite(.serialized) struct AccuracyStudyTests {
  let folder: TemporaryFolder
  let model: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
    let lines = (0..<8).map { "{\"prompt\": \"question \($0):\", \"completion\": \" yes\"}\n" }.joined()
    _ = try folder.write("samples.jsonl", lines)
  }

  private func configuration(_ options: String, _ methods: String) throws -> StudyConfiguration {
    let samples = folder.file("samples.jsonl")
    let json = """
      {"seeds": [0], "cost": false, "base": false, "cache": "\(folder.file("cache"))", "options": \(options),
       "tasks": [{"name": "t", "train": "\(samples)", "dev": "\(samples)", "metric": "loss"}], "methods": \(methods)}
      """
    return try JSONDecoder().decode(StudyConfiguration.self, from: Data(json.utf8))
  }

  private func run(_ configuration: StudyConfiguration, _ runner: LocalRunner) throws -> AccuracyTable {
    try AccuracyStudy(configuration, folder: folder.file("study"), model: model).run(runner)
  }

  private static let small = #"{"rungs": "1,3", "reduction": 2, "batch-size": 4, "device": "CPU", "threads": 1}"#
  private static let methods = #"[{"name": "one", "options": {"method": "lst", "learning-rate": 0.001}}]"#

  @Test func aFolderIsOneModels() throws {
    let configuration = try configuration(Self.small, Self.methods)
    _ = try run(configuration, LocalRunner())
    let other = try folder.model("other.gguf") { $0.seed = 9 }
    let error = #expect(throws: LadderError.self) {
      try AccuracyStudy(configuration, folder: folder.file("study"), model: other).run(LocalRunner())
    }
    #expect(error?.kind == .usage && error?.message.contains("another model") == true, "\(error?.message ?? "")")
  }

  @Test func aFolderWhoseOptionsAreTextsIsTheSameStudys() throws {
    let configuration = try configuration(Self.small, Self.methods)
    let before = try run(configuration, LocalRunner())

    // As it was written when options were texts.
    let path = folder.file("study/study.json")
    let samples = folder.file("samples.jsonl")
    let old = """
      {"seeds": [0], "cost": false, "base": false, "cache": "\(folder.file("cache"))",
       "options": {"rungs": "1,3", "reduction": "2", "batch-size": "4", "device": "CPU", "threads": "1"},
       "tasks": [{"name": "t", "train": "\(samples)", "dev": "\(samples)", "metric": "loss", "options": {},
                  "method-options": {}}],
       "methods": [{"name": "one", "options": {"method": "lst", "learning-rate": "1e-3"}}]}
      """
    try Data(old.utf8).write(to: URL(fileURLWithPath: path))
    let runner = LocalRunner()
    let after = try run(configuration, runner)
    #expect(runner.trainings.isEmpty && runner.evaluations.isEmpty)
    #expect(after.cells == before.cells)

    try Data(old.replacingOccurrences(of: "1e-3", with: "2e-3").utf8).write(to: URL(fileURLWithPath: path))
    #expect(throws: LadderError.self) { try run(configuration, runner) }
    try Data("{}".utf8).write(to: URL(fileURLWithPath: path))
    #expect(throws: LadderError.self) { try run(configuration, runner) }
  }

  /// CoLA and MRPC are judged by Matthews correlation; a study's samples may stand in a table.
  @Test(arguments: ["matthews", "macro-f1"]) func choicesCanBeJudgedByMatthews(_ metric: String) throws {
    let rows = (0..<8).map { "question \($0):,\($0 % 2)\n" }.joined()
    let samples = try folder.write("samples.csv", "sentence,label\n" + rows)
    let json = """
      {"cost": false, "options": \(Self.small), "methods": \(Self.methods), "tasks": [{"name": "t", "dev-limit": 6,
       "train": "\(samples)", "dev": "\(samples)", "metric": "\(metric)",
       "template": {"prompt": "{sentence}", "completion": " {label}", "choices": [" 0", " 1"]}}]}
      """
    let configuration = try JSONDecoder().decode(StudyConfiguration.self, from: Data(json.utf8))
    let table = try run(configuration, LocalRunner())
    #expect(table.rows.map(\.method) == ["base", "one"] && table.rows.allSatisfy { $0.metric.rawValue == metric })
    #expect(table.rows.allSatisfy { $0.examples == 6 && (-1...1).contains($0.mean) })
  }

  @Test func onlyMethodsThatKeepTheActivationsGetTheCache() throws {
    let methods = #"[{"name": "a", "options": {}}, {"name": "b", "options": {"method": "qlora", "rank": 2}}]"#
    let runner = LocalRunner()
    let table = try run(
      try configuration(#"{"batch-size": 4, "device": "CPU", "cache-format": "q8_0"}"#, methods), runner)
    #expect(runner.trainings.map { $0.cache?.format } == [.q8, nil])
    #expect(runner.trainings.map { $0.machine.device } == ["CPU", "CPU"])
    #expect(table.rows.map(\.options) == ["", "--method qlora --rank 2"])
  }

  @Test func optionsThatContradictAreRefusedBeforeAnythingRuns() throws {
    for (options, methods) in [
      (Self.small, #"[{"name": "a", "options": {"rank": 2}}]"#), (#"{"seed": 3}"#, Self.methods),
    ] {
      let configuration = try configuration(options, methods)
      #expect(throws: LadderError.self) { try AccuracyStudy(configuration, folder: folder.path, model: model) }
    }
    for options in [#"{"out": "here"}"#, #"{"reduction": "wide"}"#, #"{"rungs": {"a": 1}}"#] {
      #expect(throws: LadderError.self) { try configuration(options, Self.methods) }
    }
  }

  @Test func theMemoryStudyAsksForEachMethodInItsOwnWords() throws {
    var options = MemoryStudy.Options()
    options.lengths = [64]
    options.batches = [2]
    options.side.rungs = .list([1, 3])
    options.memory = 1 << 40
    let runner = LocalRunner()
    let rows = try MemoryStudy(model: model, options).run(runner, into: folder.file("memory"))
    #expect(rows.count == 8 && rows.allSatisfy(\.fits))
    #expect(
      runner.measurements.map(\.method.description)
        == [
          "--method lst --rungs 1,3", "--method xladder --passes 2 --rungs 1,3", "--method qlora",
          "--checkpointing on --method qlora",
        ].flatMap { [$0, $0] })
    #expect(runner.measurements.map(\.sequences) == [1, 2, 1, 2, 1, 2, 1, 2])
    // What is measured is not measured again; of other settings it is not.
    options.lengths = [64, 96]
    options.methods = ["lst"]
    let more = try MemoryStudy(model: model, options).run(runner, into: folder.file("memory"))
    #expect(more.count == 3 && runner.measurements.dropFirst(8).map(\.length) == [96])
    options.side.rungs = .list([1, 2])
    #expect(throws: LadderError.self) {
      try MemoryStudy(model: model, options).run(runner, into: folder.file("memory"))
    }
    // The paper's xLadder, without climbing.
    options.side = .init()
    options.side.depth = 2
    options.methods = []
    _ = try MemoryStudy(model: model, options)
  }
}
