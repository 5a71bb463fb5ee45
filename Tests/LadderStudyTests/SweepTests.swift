import Foundation
import LadderCore
import LadderMethods
import LadderTrain
import TestModels
import Testing

@testable import LadderEval
@testable import LadderStudy

struct SweepTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  /// Candidates whose loss is known, and that cost no time.
  private final class Known: CandidateTraining, @unchecked Sendable {
    var trained: [TrainingOptions] = []
    var interruptsAt = Int.max
    /// Rate 1e-3 and dropout 0.3 are best, rate 3e-3 diverges; more steps are better.
    static func loss(_ options: TrainingOptions) -> Double {
      let rate = Double(options.learningRate ?? 3e-4), dropout = Double(options.method.tapDropout ?? 0.2)
      return 1 + abs(log10(rate) + 3) + abs(dropout - 0.3) + 1 / Double(options.steps ?? 900)
    }

    func steps(_ options: TrainingOptions) throws -> Int { 900 }

    func train(_ options: TrainingOptions, into folder: String) throws -> Evaluation {
      if trained.count == interruptsAt { throw LadderError(.interrupted, "interrupted") }
      trained.append(options)
      Thread.sleep(forTimeInterval: 0.002)
      if options.learningRate ?? 0 > 2.5e-3 { throw LadderError(.data, "the loss is not finite at step 1") }
      let loss = Self.loss(options)
      return Evaluation(
        task: "t", metric: .loss, value: loss, examples: 1, loss: loss, tokensPerSecond: 1, trimmed: 0, dropped: 0)
    }
  }

  private func sweep(_ known: Known, budget: Double = 0.4) throws -> Sweep {
    var settings = Sweep.Settings(
      space: SearchSpace([
        .init("learning-rate", ["1e-4", "3e-4", "1e-3", "3e-3"], start: 1, isOrdered: true),
        .init("tap-dropout", ["0", "0.1", "0.2", "0.3"], start: 2, isOrdered: true),
        .init("schedule", ["cosine", "constant"], start: 0),
      ]))
    settings.budget = budget
    try DurableFile.makeFolder(folder.file("sweep"))
    return Sweep(settings, SweepFolder(path: folder.file("sweep")), known)
  }

  @Test func theBestIsFoundAndTheDefaultsGoThroughEveryStage() throws {
    let known = Known(), trials = try sweep(known).run { _ in }
    let best = try #require(Sweep.best(trials))
    #expect(best.choices["learning-rate"] == "1e-3" && best.choices["tap-dropout"] == "0.3")
    #expect(best.share == 1)
    // What was better on a part of a run is trained for that part.
    var early = best
    (early.stage, early.share, early.score) = (1, 0.25, (best.score ?? 0) - 1)
    #expect(Sweep.best(trials + [early]) == early)
    let settings = Sweep.Settings(space: SearchSpace([.init("epochs", ["1", "4"])]))
    early.choices = ["epochs": "4"]
    var more = early
    (more.share, more.score) = (1, (early.score ?? 0) + 1)
    #expect(try Sweep.options(early, among: [early, more], settings).epochs == 1)
    // Nothing says that more would be worse.
    #expect(try Sweep.options(early, among: trials + [early], settings).epochs == 4)
    for stage in 0..<3 { #expect(trials.contains { $0.stage == stage && $0.choices.isEmpty }) }
    // No candidate twice in a stage, and each from the stage before it.
    for stage in 0..<3 {
      let own = trials.filter { $0.stage == stage }.map(\.choices)
      #expect(Set(own).count == own.count)
      #expect(stage == 0 || Set(own).isSubset(of: trials.filter { $0.stage == stage - 1 }.map(\.choices)))
    }
    #expect(Set(trials.filter { $0.stage == 0 }.map(\.share)) == [1.0 / 9])
    // What diverges is told and out.
    let failed = trials.filter { $0.score == nil }
    #expect(!failed.isEmpty && failed.allSatisfy { $0.stage == 0 && $0.failure?.contains("finite") == true })
    #expect(trials.map(\.number) == Array(trials.indices))
  }

  @Test func whatWasTriedIsNotTriedAgain() throws {
    let first = Known()
    first.interruptsAt = 5
    #expect(throws: LadderError.self) { try sweep(first).run { _ in } }
    let kept = try SweepFolder(path: folder.file("sweep")).trials()
    #expect(kept.count == 5)
    let second = Known(), trials = try sweep(second).run { _ in }
    #expect(Array(trials.prefix(5)) == kept)
    #expect(second.trained.count == trials.dropFirst(5).count { $0.seconds > 0 })
    // A line that was cut short counts for nothing.
    let path = folder.file("sweep/trials.jsonl"), whole = try Data(contentsOf: URL(fileURLWithPath: path))
    try whole.dropLast(20).write(to: URL(fileURLWithPath: path))
    #expect(try SweepFolder(path: folder.file("sweep")).trials().count == trials.count - 1)
  }

  /// What did well elsewhere comes right behind the defaults.
  @Test func recipesToStartWithComeFirst() throws {
    var space = try SearchSpace(["learning-rate": ["1e-4", "1e-3", "3e-3"], "tap-dropout": ["0.2", "0.3"]])
    space.starts = [["learning-rate": "1e-3", "tap-dropout": "0.3"], [:], ["tap-dropout": "0.3"]]
    var settings = Sweep.Settings(space: space)
    settings.budget = 600
    try DurableFile.makeFolder(folder.file("starts"))
    let trials = try Sweep(settings, SweepFolder(path: folder.file("starts")), Known()).run { _ in }
    #expect(trials.prefix(3).map(\.choices) == [[:], space.starts[0], space.starts[2]])
  }

  @Test func aTinyBudgetStillComparesWithTheDefaults() throws {
    let trials = try sweep(Known(), budget: 1e-6).run { _ in }
    #expect(trials.filter { $0.stage == 0 }.count == 3)
    #expect(trials.contains { $0.stage == 2 && $0.choices.isEmpty } && Sweep.best(trials) != nil)
  }

  @Test func whatIsGivenIsNotSearched() throws {
    var base = TrainingOptions()
    base.learningRate = 1e-3
    base.method.rungs = .list([2])
    let names = SearchSpace(base, on: .init(blocks: 18, width: 640), judgesChoices: true).dimensions.map(\.name)
    #expect(!names.contains("learning-rate") && !names.contains("rungs"))
    #expect(names.contains("tap-statistics") && names.contains("reduction"))
    #expect(
      !SearchSpace(base, on: .init(blocks: 18, width: 640), judgesChoices: false).dimensions.map(\.name)
        .contains("tap-statistics"))
  }

  /// Every value of the space is one that can be trained, on models of any shape.
  @Test(arguments: [(4, 32), (18, 640), (28, 3584)]) func everyValueIsAnOption(_ blocks: Int, _ width: Int) throws {
    for method in [MethodOptions.Name.lst, .xladder, .qlora] {
      var base = TrainingOptions()
      base.method.method = method
      if method == .qlora { base.method.blocks = .last(2) }
      let space = SearchSpace(base, on: .init(blocks: blocks, width: width), judgesChoices: true)
      for dimension in space.dimensions {
        for value in dimension.values {
          let settings = try space.options([dimension.name: value]).over(base).configuration()
          try settings.validate()
          _ = try settings.method.tuning.outline(on: .init(blocks: blocks, width: width))
        }
      }
      for start in space.starts {
        #expect(
          start.allSatisfy { name, value in space.dimensions.contains { $0.name == name && $0.values.contains(value) } }
        )
        try space.options(start).over(base).configuration().validate()
      }
      #expect(space.starts.isEmpty == (method == .qlora))
      var random = SeededRandom(seed: 1), known: Set<SearchSpace.Choices> = []
      for _ in 0..<50 {
        let choices = try #require(space.candidate(changing: known.randomElement(), not: known, using: &random))
        #expect(known.insert(choices).inserted)
      }
    }
  }

  @Test func aSpaceOfOnesOwn() throws {
    let space = try SearchSpace(["learning-rate": ["1e-4", "1e-3"], "rungs": ["middle", "2,"]])
    #expect(space.dimensions.map(\.isOrdered) == [true, false])
    #expect(throws: LadderError.self) { try SearchSpace(["learning-rat": ["1e-3"]]) }
    #expect(throws: LadderError.self) { try SearchSpace(["learning-rate": ["fast"]]) }
    #expect(throws: LadderError.self) { try SearchSpace(["seed": ["1", "2"]]) }
    #expect(throws: LadderError.self) { try SearchSpace(["epochs": []]) }
    // It ends where there is nothing else to try.
    var random = SeededRandom(seed: 2)
    let all: Set<SearchSpace.Choices> = [
      [:], ["learning-rate": "1e-4", "rungs": "middle"], ["learning-rate": "1e-3", "rungs": "middle"],
      ["learning-rate": "1e-4", "rungs": "2,"], ["learning-rate": "1e-3", "rungs": "2,"],
    ]
    #expect(space.candidate(changing: nil, not: all, using: &random) == nil)
  }
}
