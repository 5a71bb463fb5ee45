import LadderBackbone
import LadderCore
import LadderData
import LadderInference
import LadderTrain

/// A model that answers prompts.
public protocol Teacher: Sendable {
  /// What it is, so that a data set is gone on with by the same one alone.
  var name: String { get }

  /// - Parameter options: with the seed of this draw.
  /// - Throws: `Refusal` for a prompt that it does not take; any other error ends the whole.
  func answer(_ prompt: DistilPrompt, options: GenerationOptions) async throws -> TeacherAnswer
}

/// What a teacher wrote.
public struct TeacherAnswer: Sendable, Codable, Equatable {
  /// The text, without what was thought before it.
  public var text: String
  /// What was thought, where the model's template keeps it apart.
  public var reasoning: String?
  /// Tools that it calls.
  public var calls: [ToolCall]?
  /// Whether it ended it, and was not cut at the most tokens.
  public var isWhole: Bool

  /// An answer.
  public init(text: String, reasoning: String? = nil, calls: [ToolCall] = [], isWhole: Bool) {
    self.text = text
    self.reasoning = reasoning?.isEmpty == false ? reasoning : nil
    self.calls = calls.isEmpty ? nil : calls
    self.isWhole = isWhole
  }

  /// Whether there is nothing in it to learn: thoughts alone are no answer.
  var isEmpty: Bool { text.allSatisfy(\.isWhitespace) && calls == nil }
}

/// A prompt that a teacher does not take: one that is too long, say.
public struct Refusal: Error, Sendable {
  /// Why.
  public var reason: String

  /// A refusal.
  public init(_ reason: String) { self.reason = reason }
}

/// A model in a GGUF file, many prompts at once.
public struct ModelTeacher: Teacher {
  private let engine: GenerationEngine
  private let run: String?
  /// The model's fingerprint, and the run's.
  public let name: String

  /// - Parameters:
  ///   - run: what was trained on the model, where that answers.
  ///   - texts: at once.
  ///   - prompts: all that will be asked, so that room is set aside for the longest.
  /// - Throws: as `GenerationEngine`; `data` where messages are asked and the model has no chat template.
  public static func load(
    _ backbone: Backbone, run: RunDirectory? = nil, texts: Int, prompts: [DistilPrompt], options: GenerationOptions
  ) async throws(LadderError) -> ModelTeacher {
    let longest = try LadderError.unify {
      try prompts.map { prompt -> Int in
        switch prompt.form {
        case .text(let text): try backbone.tokens(ofPrompt: text, options).count
        case .messages(_, let conversation): (try? backbone.prompt(conversation).count) ?? 0
        }
      }.max() ?? 0
    }
    var settings = GenerationEngine.Settings()
    settings.texts = texts
    settings.tokens = min(1 << 24, texts * (longest + options.maxTokens + 8))
    let engine = try GenerationEngine(backbone, settings: settings)
    if let run { try await engine.load(run, as: run.path) }
    if prompts.contains(where: { if case .messages = $0.form { true } else { false } }) {
      try await engine.requireTemplate(of: run?.path)
    }
    return ModelTeacher(
      engine: engine, run: run?.path, name: backbone.fingerprint + (try run.map(Self.fingerprint) ?? ""))
  }

  /// Its folder, and which training and step its weights are of.
  private static func fingerprint(_ run: RunDirectory) throws(LadderError) -> String {
    let manifest = try LadderError.unify { try run.manifest() }
    return " \(run.path) \(manifest.began.map { String(Int($0)) } ?? "") \(manifest.step)"
  }

  /// The same for the same call, so that a seed makes the same file again; nine letters and digits, as Mistral's templates
  /// want them.
  private static func callID(_ place: Int, _ name: String, _ arguments: String) -> String {
    var sum = SHA256()
    sum.update(Array("\(place) \(name) \(arguments)".utf8))
    return String(sum.hexadecimal().prefix(9))
  }

  /// Answers as the model or the run does.
  public func answer(_ prompt: DistilPrompt, options: GenerationOptions) async throws -> TeacherAnswer {
    do {
      let (events, format) = try await begin(prompt, options)
      for try await event in events {
        guard case .ended(let generation) = event else { continue }
        let isWhole = generation.ended || generation.stop != nil
        var said = AnswerText(format)
        said.add(generation.text)
        _ = said.end(isWhole: isWhole)
        guard let reading = said.reading else { return TeacherAnswer(text: generation.text, isWhole: isWhole) }
        return TeacherAnswer(
          text: reading.content, reasoning: reading.reasoning,
          calls: reading.calls.enumerated().map { place, call in
            .init(id: Self.callID(place, call.name, call.arguments), name: call.name, arguments: call.arguments)
          }, isWhole: isWhole)
      }
    } catch let error as LadderError where [.usage, .data].contains(error.kind) {
      throw Refusal(error.message)
    }
    try Cancellation.check()
    throw LadderError(.engine, "\(prompt.place): the answer did not end")
  }

  /// - Returns: how the answer is read, too; nil where it is nothing but its text.
  private func begin(_ prompt: DistilPrompt, _ options: GenerationOptions) async throws -> (
    AsyncThrowingStream<GenerationEngine.Event, any Error>, AnswerFormat?
  ) {
    switch prompt.form {
    case .text(let text): return (engine.generate(.prompt(text), with: run, options: options), nil)
    case .messages(_, let conversation):
      // A grammar of the user's is the answer's only form.
      guard options.sampling.grammar == nil, let model = await engine.loaded(run) else {
        return (engine.generate(.conversation(conversation), with: run, options: options), nil)
      }
      let prepared = try await engine.prepare(conversation, rules: AnswerRules(), with: model)
      return (engine.generate(prepared, options: options), prepared.format)
    }
  }
}
