import Foundation
import Ladder
import TestModels
import Testing

/// Work of several tasks on one backbone.
@Suite(.serialized) struct SharedBackboneTests {
  let folder: TemporaryFolder
  let backbone: Backbone

  init() throws {
    folder = try TemporaryFolder()
    backbone = try Backbone(path: try folder.model(), threads: 2, device: "CPU")
  }

  static let samples = (0..<48).map { index in
    Sample(
      prompt: "question \(index % 7), \(index % 2 == 0 ? "even" : "odd"):", completion: index % 2 == 0 ? " yes" : " no")
  }

  static var settings: TrainingConfiguration {
    var settings = TrainingConfiguration()
    var side = SideConfiguration()
    side.rungs = .list([1, 3])
    side.reduction = 2
    side.headSize = 16
    settings.method = .ladder(side)
    settings.batchSize = 4
    settings.epochs = 3
    settings.learningRate = 3e-3
    settings.checkpointEvery = 10
    return settings
  }

  private func weights(_ run: RunDirectory) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: run.weightsPath))
  }

  @Test func tasksTakeTurnsAndNothingChanges() async throws {
    let trainer = Trainer(backbone, Self.settings)
    let alone = RunDirectory(folder.file("alone"))
    try trainer.train(Self.samples, into: alone)
    let tuned = try LadderModel(backbone, adapter: alone)
    var options = GenerationOptions()
    options.maxTokens = 24
    let text = try tuned.generate("question 3, odd:", options: options).text
    let loss = try tuned.evaluate(Self.samples).loss

    let beside = RunDirectory(folder.file("beside"))
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try trainer.train(Self.samples, into: beside) }
      group.addTask { [options] in
        for _ in 0..<12 {
          let again = try tuned.generate("question 3, odd:", options: options).text
          #expect(again == text)
        }
      }
      group.addTask {
        for _ in 0..<6 {
          let again = try tuned.evaluate(Self.samples).loss
          #expect(again == loss)
        }
      }
      try await group.waitForAll()
    }
    #expect(try weights(beside) == weights(alone))
  }

  @Test func progressIsASequenceThatEndsWithTheRun() async throws {
    let run = RunDirectory(folder.file("run"))
    var steps: [Int] = []
    let progress = Trainer(backbone, Self.settings).progress(Self.samples, into: run)
    for try await event in progress { if case .step(let step) = event { steps.append(step.step) } }
    #expect(steps == Array(1...36))
    #expect(try await progress.finish()?.step == 36)
    #expect(try run.metrics().map(\.step) == steps)
  }

  @Test func aCancelledIterationEndsOnceTheStateIsSaved() async throws {
    let whole = RunDirectory(folder.file("whole")), cut = RunDirectory(folder.file("cut"))
    let trainer = Trainer(backbone, Self.settings)
    try trainer.train(Self.samples, into: whole)
    let task = Task {
      for try await event in trainer.progress(Self.samples, into: cut) {
        if case .step(let step) = event, step.step == 5 { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    await #expect { try await task.value } throws: { ($0 as? LadderError)?.kind == .interrupted }
    // The state is on the disk by now, and goes on to the same end.
    var resumed = 0
    let rest = trainer.progress(Self.samples, into: cut, resume: true)
    for try await event in rest { if case .resumed(let step) = event { resumed = step } }
    #expect(resumed >= 5 && resumed < 36)
    #expect(try weights(cut) == weights(whole))
  }

  @Test func anErrorEndsTheSequence() async throws {
    var settings = Self.settings
    settings.learningRate = -1
    let progress = Trainer(backbone, settings).progress(Self.samples, into: RunDirectory(folder.file("bad")))
    await #expect { for try await _ in progress {} } throws: { ($0 as? LadderError)?.kind == .usage }
  }
}
