import Foundation
import LadderCore
import LadderMethods
import LadderTrain
import Testing

@Suite struct TrainingOptionsTests {
  private func decode(_ json: String) throws -> TrainingOptions {
    try JSONDecoder().decode(TrainingOptions.self, from: Data(json.utf8))
  }

  @Test func nothingGivenIsTheDefaults() throws {
    #expect(try TrainingOptions().configuration() == TrainingConfiguration())
    #expect(try decode("{}") == TrainingOptions() && TrainingOptions().description.isEmpty)
  }

  @Test func valuesAreReadHoweverTheyAreWritten() throws {
    let typed = try decode(
      #"{"epochs": 2, "learning-rate": 5e-4, "rungs": [3, 6], "exact-gradient": true, "output-bias": "on", "seed": 7}"#)
    let texts = try decode(
      #"{"epochs": "2.0", "learning_rate": "0.0005", "rungs": "3,6", "exact-gradient": "yes", "output-bias": true, "seed": "7"}"#
    )
    #expect(typed == texts)
    let settings = try typed.configuration()
    #expect(settings.epochs == 2 && settings.learningRate == 5e-4 && settings.seed == 7 && !settings.filtersGradient)
    guard case .ladder(let side) = settings.method else {
      Issue.record("no side network")
      return
    }
    #expect(side.rungs == .list([3, 6]) && side.outputBias == true)
    #expect(
      typed.description == "--epochs 2 --exact-gradient --learning-rate 0.0005 --output-bias on --rungs 3,6 --seed 7")
  }

  @Test func whatIsEncodedIsReadAgain() throws {
    var options = TrainingOptions()
    options.method.method = .qlora
    options.method.targets = .init([.q, .v])
    options.learningRate = 0.1
    options.warmStart = "true"
    options.exactGradient = false
    options.optimizer = .adamw8bit
    let data = try JSONEncoder().encode(options)
    #expect(try JSONDecoder().decode(TrainingOptions.self, from: data) == options)
    let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(object["targets"] as? String == "q,v" && object["exact-gradient"] as? Bool == false)
    for rungs in [SideConfiguration.Rungs.middle, .all, .every(4), .list([4]), .list([1, 2])] {
      #expect(SideConfiguration.Rungs(optionText: rungs.optionText) == rungs)
    }
    for size in ["20GB", "6500MB", "1234"] { #expect(ByteSize(optionText: size)?.optionText == size) }
    #expect(ByteSize(optionText: "6.5G")?.bytes == 6_500_000_000 && ByteSize(optionText: "many") == nil)
  }

  @Test func whatIsGivenWins() throws {
    let file = try decode(#"{"epochs": 3, "reduction": 4, "seed": 1}"#)
    // A list of one block is that block.
    #expect(try decode(#"{"rungs": [2]}"#).method.rungs == .list([2]))
    #expect(try decode(#"{"rungs": 2}"#).method.rungs == .every(2))
    let merged = try decode(#"{"epochs": 2, "rungs": "all"}"#).over(file)
    #expect(merged.description == "--epochs 2 --reduction 4 --rungs all --seed 1")
  }

  @Test func whatCannotBeReadGetsOneLine() throws {
    for (json, words) in [
      (#"{"schedule": "foo"}"#, ["`schedule` foo: take cosine, linear or constant"]),
      (#"{"learning-rate": "fast"}"#, ["`learningRate` fast: take a number"]),
      (#"{"epoch-count": 3}"#, ["epoch-count", "epochs"]), (#"{"rungs": {"a": 1}}"#, ["rungs is not a plain value"]),
    ] {
      let error = #expect(throws: LadderError.self) { try decode(json) }
      for word in words { #expect(error?.message.contains(word) == true, "\(error?.message ?? "")") }
    }
  }

  /// Options beside a run's own template take nothing from it.
  @Test func chatSettingsLeaveWhatTheyDoNotGive() throws {
    var run = ChatSettings(), given = ChatSettings()
    run.template = "T"
    run.options = ["a": "1", "b": "2"]
    run.earlierTurns = .omit
    given.options = ["b": "3"]
    let both = given.over(run)
    #expect(both.template == "T" && both.options == ["a": "1", "b": "3"] && both.earlierTurns == .omit)
    given.template = "U"
    #expect(given.over(run).template == "U" && given.over(nil) == given)
  }

  @Test func optionsOfAnotherChoiceAreRefused() throws {
    for json in [
      #"{"rank": 4}"#, #"{"method": "lst", "passes": 2}"#, #"{"method": "lst", "depth": 2}"#,
      #"{"method": "xladder", "passes": 1}"#,
      #"{"method": "qlora", "rungs": "all"}"#, #"{"beta": 0.2}"#,
    ] {
      let options = try decode(json)
      #expect(throws: LadderError.self) { try options.configuration() }
    }
  }
}
