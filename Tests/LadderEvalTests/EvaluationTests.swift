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
    backbone = try Backbone(path: try folder.model(), threads: 2, device: testDevice)
  }

  /// The base model's loss is llama.cpp's own; weights in F32, as short samples share a call and sums are in another
  /// order.
  @Test func lossOfTheBaseModelIsTheEngines() throws {
    let backbone = try Backbone(
      path: try folder.model("f32.gguf") { $0.type = GGML_TYPE_F32 }, threads: 2, device: testDevice)
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
    let backbone = try Backbone(path: path, threads: 2, device: testDevice)
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
      path: try folder.model("f32.gguf") { $0.type = GGML_TYPE_F32 }, threads: 2, device: testDevice)
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
    // A prompt that is cut keeps its beginning-of-text token, and may be left out instead.
    let far = String(repeating: "a long way before ", count: 20) + prompt
    let long = Sample(prompt: far, completion: " x", answer: said)
    var encoder = SampleEncoder(backbone, maxLength: 40)
    let cut = try #require(try encoder.prompt(long)), whole = backbone.tokens(far, beginning: true, special: false)
    #expect(cut.count == 40 && cut.first == backbone.beginning && Array(cut.dropFirst()) == whole.suffix(39))
    encoder = SampleEncoder(backbone, maxLength: 40, overlong: .drop)
    #expect(try encoder.prompt(long) == nil)
    settings.maxLength = 40
    settings.overlong = .drop
    let left = try LadderModel(backbone).evaluate(samples + [long], options: settings)
    #expect(left.examples == 2 && left.unjudged == [.tooLong: 1] && left.value == 0.5)
    #expect(left.predictions.map(\.leftOut) == [nil, nil, .tooLong])
    #expect(#expect(throws: LadderError.self) { try LadderModel(backbone).evaluate([]) }?.kind == .data)
  }

  /// Choices that are the same to the model, that are not there or that do not fit are counted, not guessed.
  @Test func whatCannotBeJudgedIsCounted() throws {
    func sample(_ prompt: String, _ completion: String, _ choices: [String]) -> Sample {
      Sample(prompt: prompt, completion: completion, choices: choices)
    }
    var samples = (0..<6).map { sample("item \($0) is", [" a", " b"][$0 % 2], [" a", " b"]) }
    let all = try LadderModel(backbone).evaluate(samples)
    #expect(all.unjudged.isEmpty && all.unjudgedText == nil && all.matthews != nil && all.macroF1 != nil)
    samples += [sample("x", " c", [" a", " b"]), sample("y", " a", [" a", " a", " b"])]
    samples.append(sample("z", String(repeating: "long", count: 20), [" a", String(repeating: "long", count: 20)]))
    var options = EvaluationOptions()
    options.maxLength = 40
    // Only where the two alike are the likeliest can they not be told apart.
    let result = try LadderModel(backbone).evaluate(samples, options: options)
    let alike = result.unjudged[.equallyLikely] ?? 0
    #expect(result.unjudged[.notAmongChoices] == 1 && result.unjudged[.tooLong] == 1)
    #expect(result.examples == 7 - alike && result.unjudgedCount == 2 + alike)
    // A line for each sample, so that they can be laid beside the data.
    #expect(result.predictions.count == 9 && result.predictions.prefix(6).allSatisfy { $0.leftOut == nil })
    #expect(result.predictions[6].leftOut == .notAmongChoices && result.predictions[8].leftOut == .tooLong)
    #expect(result.matthews == nil && result.macroF1 == nil, "these samples have other choices")
    let json = try JSONEncoder().encode(result)
    let object = try #require(try JSONSerialization.jsonObject(with: json) as? [String: Any])
    #expect(object["judged"] as? Int == result.examples && object["unjudged"] as? Int == result.unjudgedCount)
    #expect((object["unjudged_reasons"] as? [String: Int])?["too long"] == 1)
    var decoded = try JSONDecoder().decode(Evaluation.self, from: json)
    (decoded.predictions, decoded.notes) = (result.predictions, result.notes)
    #expect(decoded == result)
    let twins = [sample("y", " a", [" a", " a"]), samples[0]]
    #expect(try LadderModel(backbone).evaluate(twins).unjudged == [.equallyLikely: 1])
    options.metric = .matthews
    #expect(throws: LadderError.self) { try LadderModel(backbone).evaluate(samples, options: options) }
  }

  /// The metrics of choices are those of the table of what was judged.
  @Test func matthewsAndF1AreOfTheChoices() throws {
    let choices = [" a", " b", " c"]
    let samples = (0..<12).map { Sample(prompt: "item \($0 * 7) is", completion: choices[$0 % 3], choices: choices) }
    for metric in [Metric.matthews, .macroF1, .choice] {
      var options = EvaluationOptions()
      options.metric = metric
      let result = try LadderModel(backbone).evaluate(samples, options: options)
      var table = Classification(labels: 3)
      for (index, prediction) in result.predictions.enumerated() {
        table.add(index % 3, judged: try #require(choices.firstIndex(of: prediction.text)))
      }
      #expect(result.matthews == table.matthews && result.macroF1 == table.macroF1)
      #expect(result.accuracy == table.accuracy && result.metric == metric)
      #expect(result.value == [.matthews: table.matthews, .macroF1: table.macroF1][metric] ?? table.accuracy)
    }
  }

  /// A conversation's answer is generated from its template, and ends where the template ends a turn.
  @Test func conversationsAreJudgedByTheirAnswer() throws {
    let template =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
      + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    let backbone = try Backbone(
      path: try folder.model("chat.gguf") { $0.chatTemplate = template }, threads: 1, device: testDevice)
    let turns = [ChatMessage(role: "user", content: "hi"), ChatMessage(role: "assistant", content: "yo")]
    let asked = try backbone.chatTemplate().render(Conversation([turns[0]]), opensAnswer: true)
    var generation = GenerationOptions()
    generation.maxTokens = 24
    generation.parsesSpecial = true
    generation.stop = ["<|im_end|>"]
    let model = try LadderModel(backbone), said = try model.generate(asked, options: generation).text
    let chatted = try model.generate(Conversation([turns[0]]), options: generation)
    #expect(chatted.text == said)
    generation.stop = []
    let ended = try model.generate(Conversation([turns[0]]), options: generation)
    #expect(ended.text == said && ended.stop == nil && ended.ended == (ended.tokens < 24))
    let forms: [Sample.Form] = [
      .conversation(Conversation(turns)), .reply(to: Conversation([turns[0]]), with: [turns[1]]),
    ]
    let samples = zip(forms, [said, "never said"]).map { Sample($0, answer: $1) }
    var options = EvaluationOptions()
    options.maxTokens = 24
    let result = try model.evaluate(samples, options: options)
    #expect(result.metric == .exact && result.predictions.map(\.text) == [said, said])
    #expect(result.predictions.map(\.isRight) == [true, false] && result.accuracy == 0.5)
    let end = AnswerEnd(templateOf: backbone.language)
    #expect(end.texts == ["<|im_end|>"] || end.tokens.count == 1)
  }

  @Test func aStopTextEndsTheGeneration() throws {
    let model = try LadderModel(backbone)
    var options = GenerationOptions()
    options.maxTokens = 40
    let whole = try model.generate("tell me", options: options)
    let middle = whole.text.index(whole.text.startIndex, offsetBy: whole.text.count / 2)
    let stop = String(whole.text[middle...].prefix(3)), first = try #require(whole.text.range(of: stop))
    options.stop = [stop, "never said"]
    var streamed = ""
    let cut = try model.generate("tell me", options: options) { streamed += $0 }
    #expect(cut.text == whole.text[..<first.lowerBound] && streamed == cut.text)
    #expect(cut.stop == stop && !cut.ended && cut.tokens < whole.tokens)
    options.stop = [""]
    #expect(throws: LadderError.self) { try model.generate("tell me", options: options) }
    #expect(throws: LadderError.self) { try model.generate("a\0b") }
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
