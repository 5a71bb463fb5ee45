import CLlama
import Foundation
import Ladder
import LadderBackbone
import LadderCompute
import TestModels
import Testing

@testable import LadderEval

@Suite(.serialized) struct EvaluationTests {
  let folder: TemporaryFolder
  let backbone: Backbone
  init() throws {
    folder = try TemporaryFolder()
    backbone = try Backbone(path: try folder.model(), threads: 2, device: "CPU")
  }

  /// The base model's loss is llama.cpp's own; weights in F32, as short samples share a call and sums are in another
  /// order.
  @Test func lossOfTheBaseModelIsTheEngines() throws {
    let backbone = try Backbone(
      path: try folder.model("f32.gguf") { $0.type = GGML_TYPE_F32 }, threads: 2, device: "CPU")
    let samples = (0..<12).map { Sample(prompt: "question number \($0 * $0):", completion: " answer \($0)") }
    let result = try LadderModel(backbone).evaluate(samples)
    let encoded = try SampleEncoder(backbone, maxLength: 256).encode(samples, name: "s").samples
    let reference = try ReferenceLogits(backbone, maxTokens: 64)
    var sum = 0.0, rows = 0
    for e in encoded {
      sum -= try reference.logProbabilities(e.tokens, rows: e.lossRows, targets: e.targets).reduce(0, +)
      rows += e.targets.count
    }
    #expect(result.metric == .loss && result.examples == 12)
    #expect(abs(result.loss - sum / Double(rows)) < 1e-3)
  }

  /// Several texts at a time give what one at a time gives; weights in F32, as a quantised model's last bits depend on
  /// the call.
  @Test func severalTextsAtATimeAreEachTheirOwn() throws {
    let path = try folder.model("f32.gguf") { $0.type = GGML_TYPE_F32 }
    let backbone = try Backbone(path: path, threads: 2, device: "CPU")
    let samples = (0..<7).map {
      Sample(
        prompt: String(repeating: "word ", count: $0 % 4) + "question \($0):", completion: " \($0)", answer: "\($0)")
    }
    var settings = TrainingConfiguration()
    settings.side.rungs = .list([1, 3])
    settings.side.reduction = 2
    settings.steps = 3
    settings.learningRate = 1e-2
    let run = RunDirectory(folder.file("run"))
    try Trainer(backbone, settings).train(samples, into: run)
    for adapter in [nil, run] {
      let model = try LadderModel(backbone, adapter: adapter)
      let results = try [1, 3].map { slots in
        var options = EvaluationOptions()
        options.maxTokens = 12
        options.parallelTexts = slots
        return try model.evaluate(samples, options: options)
      }
      #expect(results[0].predictions == results[1].predictions)
      #expect(results[0].predictions.count == 7 && results[0].predictions.contains { $0.tokens > 3 })
      let alone = try model.generate(
        "word question 1:",
        options: {
          var o = GenerationOptions(); o.maxTokens = 12; return o
        }())
      #expect(alone.text == results[1].predictions[1].text)
    }
  }

  /// Pairs are ranked by the engine's own likelihoods, and the losses that need no reference are those of these.
  @Test(arguments: [PreferenceSettings.Loss.sigmoid, .simpo, .orpo]) func pairsAreRankedByTheirLikelihood(
    _ loss: PreferenceSettings.Loss
  ) throws {
    let samples = (0..<9).map { i in
      Sample(
        .preference(
          chosen: .completion(prompt: "item \(i * 7) is", completion: " some word"),
          rejected: .completion(prompt: "item \(i * 7) is", completion: " none at all")))
    }
    // In F32: a quantised model rounds activations, which makes of a last bit a percent.
    let backbone = try Backbone(
      path: try folder.model("f32.gguf") { $0.type = GGML_TYPE_F32 }, threads: 2, device: "CPU")
    var options = EvaluationOptions()
    options.preference.loss = loss
    let result = try LadderModel(backbone).evaluate(samples, options: options)
    let reference = try ReferenceLogits(backbone, maxTokens: 64)
    var right = 0.0, sum = 0.0
    for example in try SampleEncoder(backbone, maxLength: 256, objective: .preference).examples(samples, name: "pairs")
      .examples
    {
      let own = try example.sequences.map {
        try reference.logProbabilities($0.tokens, rows: $0.lossRows, targets: $0.targets).reduce(0, +)
      }
      let counts = example.sequences.map(\.targets.count)
      let isCompared = loss == .sigmoid
      let pair = PreferencePair(
        chosen: own[0], rejected: own[1], chosenReference: isCompared ? own[0] : 0,
        rejectedReference: isCompared ? own[1] : 0, chosenTokens: counts[0],
        rejectedTokens: counts[1])
      sum += pair.evaluate(options.preference).loss
      right += own[0] > own[1] ? 1 : 0
    }
    #expect(result.metric == .preference && result.examples == 9 && result.margin == 0)
    #expect(abs(result.value - right / 9) < 1e-9)
    #expect(abs(result.loss - sum / 9) < 1e-4 * max(1, sum / 9), "\(result.loss) against \(sum / 9)")
  }

  /// Choices of one token each share their prompt's run, others are scored whole: both agree with the engine's
  /// likelihoods.
  @Test(arguments: [[" a", " b", " c"], [" yes indeed", " no", " maybe so"]]) func choicesAreJudgedByTheirLikelihood(
    _ choices: [String]
  ) throws {
    let samples = (0..<9).map { Sample(prompt: "item \($0 * 7) is", completion: choices[$0 % 3], choices: choices) }
    let result = try LadderModel(backbone).evaluate(samples)
    let encoder = SampleEncoder(backbone, maxLength: 256), reference = try ReferenceLogits(backbone, maxTokens: 64)
    var right = 0, count = SampleEncoder.Count()
    for sample in samples {
      let scores = try #require(encoder.encodeChoices(sample, &count)).map { e in
        try reference.logProbabilities(e.tokens, rows: e.lossRows, targets: e.targets).reduce(0, +)
      }
      guard case .completion(_, let completion) = sample.form else { continue }
      if scores.indices.max(by: { scores[$0] < scores[$1] }) == choices.firstIndex(of: completion) { right += 1 }
    }
    #expect(result.metric == .choice)
    #expect(abs(result.value - Double(right) / 9) < 1e-9)
  }

  @Test func exactMatchGeneratesAndCompares() throws {
    let prompt = "tell me"
    var options = GenerationOptions()
    options.maxTokens = 12
    let said = try LadderModel(backbone).generate(prompt, options: options).text
    var settings = EvaluationOptions()
    settings.maxTokens = 12
    settings.metric = .exact
    let samples = [
      Sample(prompt: prompt, completion: " x", answer: said),
      Sample(prompt: prompt, completion: " x", answer: "never said"),
    ]
    let result = try LadderModel(backbone).evaluate(samples, options: settings)
    #expect(result.metric == .exact && result.value == 0.5)
  }

  @Test(arguments: [
    ("so 3 + 4 = 7\n#### 7", "7", true), ("#### 1,234", "1234", true), ("the answer is $18.00.", "18", true),
    ("first 3 then 5", "3", false),
    ("it is -4", "-4", true), ("blue\nGreen ", "green", true), ("x #### Paris\nmore", "paris", true), ("", "1", false),
    ("no number", "2", false),
  ]) func finalAnswers(_ text: String, _ answer: String, _ matches: Bool) {
    #expect(FinalAnswer.matches(text, answer) == matches)
  }

  @Test func aCancelledTaskStopsGenerating() async throws {
    let model = UncheckedBox(try LadderModel(backbone))
    let task = Task.detached {
      var options = GenerationOptions()
      options.maxTokens = 2000
      return try model.value.generate("abc", options: options) { _ in withUnsafeCurrentTask { $0?.cancel() } }.tokens
    }
    let error = await #expect(throws: LadderError.self) { try await task.value }
    #expect(error?.kind == .interrupted)
  }
}

private struct UncheckedBox<T>: @unchecked Sendable {
  let value: T
  init(_ value: T) { self.value = value }
}
