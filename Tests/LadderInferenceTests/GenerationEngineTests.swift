import CLlama
import LadderBackbone
import LadderCore
import LadderData
import LadderTrain
import TestModels
import Testing

@testable import LadderInference

/// Many tasks on one engine.
@Suite(.serialized) struct GenerationEngineTests {
  let folder: TemporaryFolder
  let backbone: Backbone

  init() throws {
    folder = try TemporaryFolder()
    backbone = try Backbone(
      path: try folder.model("f32.gguf") { model in
        model.type = GGML_TYPE_F32
        model.chatTemplate =
          "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
          + "{% if add_generation_prompt %}<assistant>{% endif %}"
      }, threads: 2, device: "CPU")
  }

  private func run(_ name: String, learning text: String) throws -> RunDirectory {
    var settings = TrainingConfiguration()
    settings.side.rungs = .list([1, 3])
    settings.side.reduction = 2
    settings.side.headSize = 16
    settings.steps = 12
    settings.batchSize = 4
    settings.learningRate = 2e-2
    let run = RunDirectory(folder.file(name))
    try Trainer(backbone, settings).train(
      (0..<16).map { Sample(prompt: "text \($0)", completion: text) }, into: run)
    return run
  }

  /// A few tokens: the engine's attention is in F16, whose last bits depend on what shares a pass.
  private var options: GenerationOptions {
    var options = GenerationOptions()
    options.maxTokens = 6
    return options
  }

  private func text(
    _ engine: GenerationEngine, _ input: GenerationEngine.Input, _ name: String?, _ options: GenerationOptions
  ) async throws -> String {
    var text = "", ended: Generation?
    for try await event in engine.generate(input, with: name, options: options) {
      switch event {
      case .began: break
      case .piece(let piece, _): text += piece
      case .ended(let generation): ended = generation
      }
    }
    #expect(ended?.text == text || Task.isCancelled)
    return text
  }

  @Test func manyTasksGetWhatEachGetsAlone() async throws {
    let engine = try GenerationEngine(backbone)
    let runs = ["one": try run("a", learning: " one more"), "two": try run("b", learning: " and two")]
    for (name, run) in runs { try await engine.load(run, as: name) }
    #expect(await engine.names == ["one", "two"])
    #expect(await engine.method(of: "one") == "lst")
    let names: [String?] = [nil, "one", "two"], prompts = (0..<4).map { "text \($0)" }, options = options
    let asked = Conversation([ChatMessage(role: "user", content: "hello")])
    try await withThrowingTaskGroup(of: (String?, String, String).self) { group in
      for name in names {
        for prompt in prompts {
          group.addTask { (name, prompt, try await text(engine, .prompt(prompt), name, options)) }
        }
        group.addTask { (name, "chat", try await text(engine, .conversation(asked), name, options)) }
      }
      for try await (name, prompt, said) in group {
        let alone = try LadderModel(backbone, adapter: name.flatMap { runs[$0] })
        let expected =
          try prompt == "chat" ? alone.generate(asked, options: options) : alone.generate(prompt, options: options)
        #expect(said == expected.text)
      }
    }
    // Another run of the same name takes its place; none of an unknown name is there.
    try await engine.load(try #require(runs["two"]), as: "one")
    #expect(
      try await text(engine, .prompt("text 1"), "one", options) == text(engine, .prompt("text 1"), "two", options))
    await engine.unload("one")
    await #expect(throws: LadderError.self) { try await text(engine, .prompt("text 1"), "one", options) }
    await #expect(throws: LadderError.self) { try await text(engine, .prompt("a\0b"), nil, options) }
  }

  /// A task that no longer listens costs nothing more, and the others go on.
  @Test func whoLeavesIsForgotten() async throws {
    let engine = try GenerationEngine(backbone)
    var long = options
    long.maxTokens = 3000
    let settings = long, plain = options
    let leaving = Task {
      for try await event in engine.generate(.prompt("abc"), options: settings) {
        if case .piece = event { return }
      }
    }
    let cancelled = Task { try await text(engine, .prompt("def"), nil, settings) }
    try await leaving.value
    cancelled.cancel()
    _ = try? await cancelled.value
    let said = try await text(engine, .prompt("abc"), nil, plain)
    #expect(said == (try LadderModel(backbone).generate("abc", options: plain).text))
    // Both are gone: the loop comes to its end at once.
    for _ in 0..<100 where await engine.isBusy { try await Task.sleep(for: .milliseconds(20)) }
    #expect(await !engine.isBusy)
  }

  /// A run keeps the template that it was trained with; the model's own stays the others'.
  @Test func everyRunHasItsOwnTemplate() async throws {
    let run = try run("a", learning: " one more"), engine = try GenerationEngine(backbone)
    var other = ChatSettings()
    other.template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    try await engine.load(run, as: "own")
    try await engine.load(run, as: "other", template: other)
    let asked = Conversation([ChatMessage(role: "user", content: "hello")])
    #expect(
      try await text(engine, .conversation(asked), "other", options) == text(engine, .prompt("[hello]"), "own", options)
    )
    #expect(
      try await text(engine, .conversation(asked), nil, options)
        == text(engine, .prompt("<user>hello</><assistant>"), nil, options))
    #expect(
      try await text(engine, .conversation(asked), "own", options)
        == text(engine, .prompt("<user>hello</><assistant>"), "own", options))
  }
}
