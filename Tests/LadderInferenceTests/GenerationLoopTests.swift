import CLlama
import LadderBackbone
import LadderCore
import LadderData
import LadderMethods
import LadderTrain
import TestModels
import Testing

@testable import LadderInference

/// Many texts in one loop, of the backbone and of several side networks. In F32, so that texts that share a pass differ
/// from texts alone in last bits only.
@Suite(.serialized) struct GenerationLoopTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  static let shared = "the same beginning of every text, long enough to be worth keeping: "
  static let prompts = ["", "one", "two and more", "3", "four, which goes on for a while longer than the others"].map {
    shared + $0
  }

  private func backbone(_ architecture: TinyModel.Architecture) throws -> Backbone {
    try Backbone(
      path: try folder.model("\(architecture).gguf") { model in
        model.architecture = architecture
        model.type = GGML_TYPE_F32
      }, threads: 2, device: "CPU")
  }

  /// A side network that says something else than the model.
  private func ladder(_ backbone: Backbone, rungs: [Int], seed: UInt64) throws -> LadderModel {
    var settings = TrainingConfiguration(), side = SideConfiguration()
    side.rungs = .list(rungs)
    side.reduction = 2
    side.headSize = 16
    settings.method = .ladder(side)
    settings.steps = 12
    settings.batchSize = 4
    settings.learningRate = 2e-2
    settings.seed = seed
    let run = RunDirectory(folder.file("run-\(rungs)-\(seed)"))
    try Trainer(backbone, settings).train(
      (0..<16).map {
        Sample(prompt: "text \($0)", completion: " and \(["", "one", "two", "three"][Int(seed)]) more of it")
      }, into: run)
    return try LadderModel(backbone, adapter: run)
  }

  private func options(_ tokens: Int = 16) -> GenerationOptions {
    var options = GenerationOptions()
    options.maxTokens = tokens
    return options
  }

  private final class Ended {
    var texts: [Int: String] = [:]
    var reused: [Int: Int] = [:]
    var failures: [Int: LadderError] = [:]
    var tokens: [Int: [GeneratedToken]] = [:]
    var order: [Int] = []

    func take(_ name: Int) -> (GenerationUpdate) -> Void {
      { update in
        switch update {
        case .began(let reused): self.reused[name] = reused
        case .piece(_, let tokens): self.tokens[name, default: []] += tokens
        case .ended(.success(let generation)):
          self.texts[name] = generation.text
          self.order.append(name)
        case .ended(.failure(let error)): self.failures[name] = error
        }
      }
    }
  }

  private func prompt(_ text: String, _ backbone: Backbone, _ options: GenerationOptions) throws -> Prompt {
    Prompt(try backbone.tokens(ofPrompt: text, options), options: options, end: AnswerEnd())
  }

  /// Gemma's windowed blocks keep what they no longer see, as another text may go on from there.
  @Test(arguments: [TinyModel.Architecture.qwen2, .gemma3]) func mixedTextsAreWhatEachIsAlone(
    _ architecture: TinyModel.Architecture
  ) throws {
    let backbone = try backbone(architecture)
    let models = [
      try LadderModel(backbone), try ladder(backbone, rungs: [1, 3], seed: 1),
      try ladder(backbone, rungs: [2], seed: 2),
      try ladder(backbone, rungs: [1, 3], seed: 3),
    ]
    let adapted = models.map { AdaptedModel($0.predictor) }
    let loop = try exactLoop(backbone, tokens: 2048, texts: 6, reuses: true), ended = Ended()
    var settings = options()
    settings.logProbabilities = 4
    for round in 0..<2 {
      for (index, text) in Self.prompts.enumerated() {
        for model in models.indices {
          let name = (round * Self.prompts.count + index) * models.count + model
          try loop.add(try prompt(text, backbone, settings), to: adapted[model], deliver: ended.take(name))
        }
      }
      while try loop.step() {}
    }
    #expect(ended.failures.isEmpty && ended.texts.count == 40)
    var alone: [[GeneratedToken]] = []
    for text in Self.prompts {
      for model in adapted {
        let single = try exactLoop(backbone, tokens: 256, texts: 1, reuses: false), one = Ended()
        try single.add(try prompt(text, backbone, settings), to: model, deliver: one.take(0))
        while try single.step() {}
        alone.append(one.tokens[0] ?? [])
      }
    }
    for name in 0..<40 {
      try expectEqual(ended.tokens[name] ?? [], alone[name % 20], within: name % 4 == 0 ? 1e-4 : 0.02)
    }
    // The side networks say what the model does not, each its own; the texts had their beginning in common.
    #expect(Set(alone.prefix(4).map { $0.map(\.id) }).count == 4)
    #expect(ended.reused.values.count { $0 >= Self.shared.utf8.count - 1 } >= 20)
  }

  private func exactLoop(_ backbone: Backbone, tokens: Int, texts: Int, reuses: Bool) throws -> GenerationLoop {
    var settings = GenerationLoop.Settings(tokens: tokens, texts: texts, reuses: reuses)
    settings.exactAttention = true
    return try GenerationLoop(backbone, settings)
  }

  /// The same tokens, or at the first that is another one two that are equally likely but for rounding: side networks
  /// round what they read to BF16.
  private func expectEqual(_ mixed: [GeneratedToken], _ alone: [GeneratedToken], within limit: Double) throws {
    for (a, b) in zip(mixed, alone) {
      if a.id != b.id {
        let other = try #require(b.likeliest.first { $0.id == a.id }),
          gap = (b.logProbability ?? 0) - other.logProbability
        #expect(gap < limit, "\(gap)")
        return
      }
      #expect(abs((a.logProbability ?? 0) - (b.logProbability ?? 1)) < limit)
    }
    #expect(mixed.count == alone.count)
  }

  /// What one side network has read, another need not have the backbone read again.
  @Test func aBeginningServesEverySideNetwork() throws {
    let backbone = try backbone(.gemma3)
    let first = try ladder(backbone, rungs: [1, 3], seed: 1), second = try ladder(backbone, rungs: [1, 3], seed: 2)
    let loop = try GenerationLoop(backbone, .init(tokens: 1024, texts: 4, reuses: true)), ended = Ended()
    let models = [first, second, try LadderModel(backbone)]
    let census = try backbone.engine.counting {
      for (index, model) in models.enumerated() {
        try loop.add(
          try prompt(Self.prompts[index], backbone, options(8)), to: AdaptedModel(model.predictor),
          deliver: ended.take(index))
        while try loop.step() {}
        let alone = try model.generate(Self.prompts[index], options: options(8)).text
        #expect(ended.texts[index] == alone)
      }
    }
    _ = census
    #expect(ended.reused[0] == 0 && ended.reused[1] ?? 0 >= 60 && ended.reused[2] ?? 0 >= 60)
  }

  @Test func aConversationGoesOnWhereItEnded() throws {
    let backbone = try backbone(.qwen2), model = try ladder(backbone, rungs: [1, 3], seed: 1)
    let loop = try GenerationLoop(backbone, .init(tokens: 512, texts: 1, reuses: true)), ended = Ended()
    let adapted = AdaptedModel(model.predictor)
    var text = "a question"
    for turn in 0..<4 {
      try loop.add(try prompt(text, backbone, options(12)), to: adapted, deliver: ended.take(turn))
      while try loop.step() {}
      #expect(ended.texts[turn] == (try model.generate(text, options: options(12)).text))
      if turn > 0 { #expect(ended.reused[turn] ?? 0 >= 8 * turn) }
      text += (ended.texts[turn] ?? "") + " and then"
    }
    // Another beginning, then the first once more.
    for (name, text) in [(8, "something else"), (9, "a question")] {
      try loop.add(try prompt(text, backbone, options(12)), to: adapted, deliver: ended.take(name))
      while try loop.step() {}
    }
    #expect(ended.reused[8] ?? 9 <= 1 && ended.texts[9] == ended.texts[0])
  }

  @Test func whatIsCancelledLeavesTheOthersAlone() throws {
    let backbone = try backbone(.qwen2), model = AdaptedModel(try LadderModel(backbone).predictor), ended = Ended()
    let loop = try GenerationLoop(backbone, .init(tokens: 400, texts: 2, reuses: true))
    var ids: [Int] = []
    for (index, text) in Self.prompts.enumerated() {
      ids.append(try loop.add(try prompt(text, backbone, options()), to: model, deliver: ended.take(index)))
    }
    #expect(loop.waitingTexts == 5)
    for _ in 0..<3 { _ = try loop.step() }
    #expect(loop.runningTexts == 2)
    loop.cancel(ids[0])
    loop.cancel(ids[4])
    while try loop.step() {}
    #expect(ended.texts.keys.sorted() == [1, 2, 3] && ended.failures.isEmpty)
    for index in 1...3 {
      #expect(ended.texts[index] == (try LadderModel(backbone).generate(Self.prompts[index], options: options()).text))
    }
    // What never fits is refused; what fits alone waits its turn.
    #expect(throws: LadderError.self) {
      try loop.add(try prompt(String(repeating: "a", count: 500), backbone, options()), to: model) { _ in }
    }
    try loop.add(
      try prompt(String(repeating: "a", count: 390), backbone, options(100)), to: model, deliver: ended.take(7))
    while try loop.step() {}
    #expect(ended.texts[7] != nil)
  }

  @Test func aGrammarHolds() throws {
    let backbone = try backbone(.qwen2), model = try ladder(backbone, rungs: [1, 3], seed: 1)
    for temperature in [Float(0), 1.5] {
      var options = options(40)
      options.temperature = temperature
      options.sampling.grammar = "root ::= \"yes, \" [0-9] [0-9] | \"no\""
      for seed in UInt32(0)..<4 {
        options.seed = seed
        let text = try model.generate("well?", options: options)
        #expect(text.ended)
        #expect(try #/yes, [0-9][0-9]|no/#.wholeMatch(in: text.text) != nil, "\(text.text)")
      }
    }
    var broken = options()
    broken.sampling.grammar = "root ::= ("
    #expect(throws: LadderError.self) { try model.generate("well?", options: broken) }
  }

  @Test func biasAndPenaltiesCount() throws {
    let backbone = try backbone(.qwen2), model = try LadderModel(backbone)
    var options = options(12)
    let plain = try model.generate("abc", options: options).text
    options.sampling.bias = [backbone.tokenizer.tokens("q")[0]: 100]
    #expect(try model.generate("abc", options: options).text == String(repeating: "q", count: 12))
    options.sampling.bias = [backbone.tokenizer.tokens("q")[0]: 100]
    options.sampling.presencePenalty = 100
    #expect(try model.generate("abc", options: options).text.filter { $0 == "q" }.count < 12)
    options.sampling = SamplingOptions()
    #expect(try model.generate("abc", options: options).text == plain)
    options.sampling.topK = 3_000_000_000
    options.temperature = 1
    #expect(throws: LadderError.self) { try model.generate("abc", options: options) }
    options.sampling = SamplingOptions()
    options.maxTokens = .max
    #expect(throws: LadderError.self) { try model.generate("abc", options: options) }
    options.maxTokens = 12
    options.sampling.minP = 1
    #expect(throws: LadderError.self) { try model.generate("abc", options: options) }
  }

  /// Texts that come together read what they begin with alike once.
  @Test func whatComesTogetherReadsItsBeginningOnce() throws {
    let backbone = try backbone(.qwen2), model = AdaptedModel(try LadderModel(backbone).predictor), ended = Ended()
    let loop = try GenerationLoop(backbone, .init(tokens: 2048, texts: 8, reuses: true))
    for (index, text) in Self.prompts.enumerated() {
      try loop.add(try prompt(text, backbone, options(4)), to: model, deliver: ended.take(index))
    }
    while try loop.step() {}
    #expect(ended.texts.count == 5 && ended.failures.isEmpty)
    #expect((1..<5).allSatisfy { ended.reused[$0] ?? 0 >= Self.shared.utf8.count - 1 } && ended.reused[0] == 0)
    loop.forget(model)
    try loop.add(try prompt("abc", backbone, options(4)), to: model, deliver: ended.take(9))
    while try loop.step() {}
    #expect(ended.texts[9] != nil)
  }

  /// Against llama.cpp's own logits.
  @Test func probabilitiesAreTheModels() throws {
    let backbone = try backbone(.qwen2), model = try ladder(backbone, rungs: [1, 3], seed: 1)
    let loop = try GenerationLoop(backbone, .init(tokens: 512, texts: 2, reuses: true)), ended = Ended()
    var options = options(8)
    options.logProbabilities = 3
    options.comparesWithModel = true
    for (index, adapted) in [AdaptedModel(model.predictor), AdaptedModel(try LadderModel(backbone).predictor)]
      .enumerated()
    {
      try loop.add(try prompt("abc", backbone, options), to: adapted, deliver: ended.take(index))
    }
    while try loop.step() {}
    let prompt = try backbone.tokens(ofPrompt: "abc", options), reference = try ReferenceLogits(backbone, maxTokens: 64)
    for index in 0..<2 {
      let tokens = try #require(ended.tokens[index]), text = prompt + tokens.dropLast().map(\.id)
      let own = try reference.logProbabilities(
        text, rows: Array((prompt.count - 1)..<text.count), targets: tokens.map(\.id))
      for (token, expected) in zip(tokens, own) {
        let said = try #require(index == 0 ? token.modelLogProbability : token.logProbability)
        #expect(abs(said - Double(expected)) < 1e-3)
        #expect(token.likeliest.count == 3 && token.likeliest[0].id == token.id)
        #expect(token.likeliest[0].logProbability == token.logProbability)
        #expect(token.likeliest[1].logProbability >= token.likeliest[2].logProbability)
      }
    }
    #expect(zip(ended.tokens[0] ?? [], ended.tokens[1] ?? []).contains { $0.logProbability != $1.logProbability })
  }
}
