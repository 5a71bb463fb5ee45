import LadderBackbone
import LadderCore
import LadderData
import LadderMethods
import LadderTrain

/// One backbone, and runs that were trained on it, for many tasks at once: requests for the model alone and for every
/// run are continued together, and what a text has in common with an earlier one is not read again, whichever run
/// either is for.
///
///     let engine = try GenerationEngine(backbone)
///     try await engine.load(RunDirectory("runs/first"), as: "first")
///     for try await event in engine.generate(.prompt("Review: a joy\nSentiment:"), with: "first") { … }
///
/// A run that llama.cpp applies to the model (QLoRA's) has keys and values of its own: it shares neither passes nor
/// beginnings with others.
public actor GenerationEngine {
  /// What it sets aside.
  public struct Settings: Sendable {
    /// Tokens of all texts together that the model holds keys and values for; nil is what it was trained on, 8,192 at
    /// most.
    public var tokens: Int?
    /// Texts at once, 64 at most; others wait.
    public var texts = 16

    public init() {}

    /// - Parameter length: tokens that the model was trained on; 0 where that is not known.
    package func capacity(trainedOn length: Int) -> Int { tokens ?? min(8192, length > 0 ? length : 8192) }
  }

  /// What is to be continued.
  public enum Input: Sendable {
    /// A text as it stands.
    case prompt(String)
    /// A conversation, rendered by the run's template or the model's.
    case conversation(Conversation)
  }

  /// What comes of a text, in this order: one `began`, pieces, one `ended`.
  public enum Event: Sendable {
    /// Its prompt is being read; so many of its tokens are held already.
    case began(reused: Int)
    /// Whole characters, with the tokens since the last piece where probabilities were asked for.
    case piece(String, [GeneratedToken])
    case ended(Generation)
  }

  /// The model.
  public nonisolated let backbone: Backbone
  /// Tokens of all texts together that it holds keys and values for.
  public nonisolated let capacity: Int
  private let thread = EngineThread(name: "generation")
  private let loop: GenerationLoop
  private var models: [String: LoadedModel]
  private let base: LoadedModel
  private var isRunning = false
  private var embedder: TextEmbedder??

  public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

  /// - Throws: `usage` for settings that cannot be.
  public init(_ backbone: Backbone, settings: Settings = Settings()) throws(LadderError) {
    let tokens = settings.capacity(trainedOn: backbone.contextLength)
    guard (1...1 << 24).contains(tokens), (1...64).contains(settings.texts) else {
      throw LadderError(.usage, "`tokens` must be 1 to \(1 << 24), `texts` 1 to 64")
    }
    self.backbone = backbone
    capacity = tokens
    loop = try LadderError.unify {
      try GenerationLoop(backbone, .init(tokens: tokens, texts: settings.texts, reuses: true))
    }
    models = [:]
    base = LoadedModel(BackbonePredictor(backbone), backbone.language, method: nil)
  }

  // MARK: - Runs

  /// What answers under a name; nil for an unknown one.
  /// - Parameter name: a run's; nil is the model alone.
  package func loaded(_ name: String?) -> LoadedModel? { name.map { models[$0] } ?? base }

  /// The names of the runs that are loaded.
  public var names: [String] { models.keys.sorted() }

  /// The method by which a run was trained; nil where there is none of the name.
  public func method(of name: String) -> String? { models[name]?.method }

  /// Loads a run, in place of one of the same name: texts that were begun with that one go on with it.
  /// - Parameter template: how conversations are rendered; what it leaves open is as the run was trained.
  /// - Throws: `missing` or `data` where the run is not whole or was trained on another model.
  public func load(_ run: RunDirectory, as name: String, template: ChatSettings? = nil) throws(LadderError) {
    let loaded = try LadderError.unify {
      let manifest = try run.manifest(), language = try backbone.language.separate()
      let predictor = try run.predictor(backbone)
      language.use(template?.over(manifest.configuration.chat) ?? manifest.configuration.chat)
      return LoadedModel(predictor, language, method: manifest.method)
    }
    replace(name, by: loaded)
  }

  /// Loads a LoRA adapter of llama.cpp's, a GGUF file, as a run of its own.
  /// - Throws: `missing`; `data` where it is none of this model.
  public func load(adapter path: String, as name: String, template: ChatSettings? = nil) throws(LadderError) {
    let loaded = try LadderError.unify {
      let language = try backbone.language.separate()
      if let template { language.use(template) }
      return LoadedModel(
        BackbonePredictor(backbone, adapter: try EngineAdapter(path: path, backbone)), language, method: "adapter")
    }
    replace(name, by: loaded)
  }

  /// Forgets a run; texts that were begun with it go on.
  public func unload(_ name: String) { replace(name, by: nil) }

  private func replace(_ name: String, by new: LoadedModel?) {
    let old = models[name]
    models[name] = new
    loop.expectedRungs = Set(models.values.flatMap(\.adapted.rungs))
    if let old { loop.forget(old.adapted) }
  }

  /// - Parameter name: a run's; nil is the model alone.
  /// - Throws: `data` where there is no template for conversations, or one that cannot be read.
  public func requireTemplate(of name: String?) throws(LadderError) {
    try LadderError.unify { _ = try model(name).language.chatTemplate() }
  }

  // MARK: - Texts

  /// Whether a text is being continued, or waits.
  public var isBusy: Bool { isRunning }

  /// Continues a text. It is given up where the task that reads the events ends before them.
  /// - Parameter name: a run's; nil is the model alone.
  /// - Returns: events; the stream throws a `LadderError`: `missing` for an unknown name, else as `LadderModel`.
  public nonisolated func generate(
    _ input: Input, with name: String? = nil, options: GenerationOptions = GenerationOptions()
  ) -> AsyncThrowingStream<Event, any Error> {
    events { engine in
      let model = try engine.model(name)
      return (try engine.prompt(input, model, options), model)
    }
  }

  /// Continues what was prepared, with the run that it was prepared for, whatever its name stands for by now.
  package nonisolated func generate(
    _ prepared: PreparedPrompt, options: GenerationOptions = GenerationOptions()
  ) -> AsyncThrowingStream<Event, any Error> {
    events { engine in (try prepared.prompt(options, engine.backbone.language), prepared.model) }
  }

  /// Renders a conversation, with what its answers are written and read by.
  /// - Parameter choices: how many answers are read.
  /// - Throws: `data` where there is no template, or it refuses the conversation; `usage` for rules that cannot be kept.
  package func prepare(
    _ conversation: Conversation, rules: AnswerRules, choices: Int = 1, with model: LoadedModel
  ) throws(LadderError) -> PreparedPrompt {
    try LadderError.unify {
      PreparedPrompt(
        tokens: try model.language.prompt(conversation), model, end: model.end,
        format: try model.format(conversation, rules, choices: choices))
    }
  }

  private func prompt(_ input: Input, _ model: LoadedModel, _ options: GenerationOptions) throws -> Prompt {
    switch input {
    case .prompt(let text):
      Prompt(try backbone.tokens(ofPrompt: text, options), options: options, end: AnswerEnd())
    case .conversation(let conversation):
      Prompt(try model.language.prompt(conversation), options: options, end: model.end)
    }
  }

  /// A text's vector by the model alone, of length 1.
  /// - Returns: nil for a model that gives none.
  /// - Throws: `usage` for a text without a token, or with more than fit.
  package func embed(_ tokens: [Int32]) throws(LadderError) -> [Float]? {
    try LadderError.unify {
      if embedder == nil {
        let length = backbone.contextLength > 0 ? backbone.contextLength : capacity
        embedder = .some(try TextEmbedder.make(backbone, maxTokens: min(capacity, length, 2048)))
      }
      return try (embedder ?? nil)?.vector(tokens)
    }
  }

  /// A text, and what continues it.
  private typealias Text = @Sendable (isolated GenerationEngine) throws -> (Prompt, LoadedModel)

  private nonisolated func events(_ text: @escaping Text) -> AsyncThrowingStream<Event, any Error> {
    AsyncThrowingStream { continuation in
      let ticket = Ticket()
      continuation.onTermination = { reason in
        if case .cancelled = reason { Task { await self.cancel(ticket) } }
      }
      Task { await self.submit(text, ticket, continuation) }
    }
  }

  /// A text's number in the loop. Only the actor looks at it.
  private final class Ticket: @unchecked Sendable {
    var id: Int?
    var isCancelled = false
  }

  private func submit(
    _ text: Text, _ ticket: Ticket, _ continuation: AsyncThrowingStream<Event, any Error>.Continuation
  ) {
    if ticket.isCancelled { return }
    do {
      let (prompt, model) = try text(self)
      ticket.id = try loop.add(prompt, to: model.adapted) { update in
        switch update {
        case .began(let reused): continuation.yield(.began(reused: reused))
        case .piece(let text, let tokens): continuation.yield(.piece(text, tokens))
        case .ended(.success(let generation)):
          continuation.yield(.ended(generation))
          continuation.finish()
        case .ended(.failure(let error)): continuation.finish(throwing: error)
        }
      }
      // A run that was unloaded meanwhile goes with this text.
      if model !== base, !models.values.contains(where: { $0 === model }) { loop.forget(model.adapted) }
    } catch { return continuation.finish(throwing: LadderError(any: error)) }
    guard !isRunning else { return }
    isRunning = true
    Task { await run() }
  }

  private func model(_ name: String?) throws -> LoadedModel {
    guard let name else { return base }
    guard let model = models[name] else { throw LadderError(.missing, "no run is loaded as \(name.shown)") }
    return model
  }

  private func cancel(_ ticket: Ticket) {
    ticket.isCancelled = true
    if let id = ticket.id { loop.cancel(id) }
  }

  /// Goes on with every text; between two steps others may come or be given up.
  private func run() async {
    while (try? loop.step()) == true { await Task.yield() }
    isRunning = false
  }
}
