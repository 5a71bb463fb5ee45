import Foundation
import Hummingbird
import LadderBackbone
import LadderCore
import LadderInference

/// Answers chats and completions.
struct TextHandler: Sendable {
  let engine: GenerationEngine
  let catalogue: Catalogue
  let admission: Admission
  let limits: ServerSettings.Limits
  let bodies: Admission
  let metrics: GenerationMetrics

  private var vocabulary: Int { engine.backbone.vocabulary }

  func chat(_ request: Request, _ context: ServerContext) async throws -> Response {
    var request = request
    let asked = try ChatFields(try await fields(&request), limits, tokens: vocabulary)
    let model = try await resolve(asked.common)
    // What cannot fit is not rendered first.
    if engine.cannotHold(bytes: asked.bytes) { throw tooLong("\(asked.bytes) bytes") }
    let place = try admission.enter(asked.common.choices)
    let prompt = try await engine.prepare(
      asked.conversation, rules: asked.rules, choices: asked.common.choices, with: model)
    try check([prompt], asked.common.options)
    let texts = texts([prompt], asked.common)
    return try await answer(request, context, texts, place, asked.common) { ChatTranslator(asked.common, prompt) }
  }

  func complete(_ request: Request, _ context: ServerContext) async throws -> Response {
    var request = request
    let asked = try CompletionFields(try await fields(&request), limits, tokens: vocabulary)
    let model = try await resolve(asked.common)
    let place = try admission.enter(asked.prompts.count * asked.common.choices)
    for prompt in asked.prompts {
      if let bytes = prompt.bytes, engine.cannotHold(bytes: bytes) { throw tooLong("\(bytes) bytes") }
    }
    let prompts = try asked.prompts.map { text in
      PreparedPrompt(tokens: try text.tokens(engine.backbone, asked.common.options), model)
    }
    try check(prompts, asked.common.options)
    let tokens = prompts.reduce(0) { $0 + $1.tokens.count }
    let prefixes = asked.prompts.flatMap { text in
      Array(repeating: asked.echoes ? text.text(engine.backbone) : "", count: asked.common.choices)
    }
    return try await answer(request, context, texts(prompts, asked.common), place, asked.common) {
      CompletionTranslator(asked.common, prefixes: prefixes, promptTokens: tokens)
    }
  }

  // MARK: - Requests

  /// - Throws: `APIError` for a body that is too large, comes too slowly or is no object.
  private func fields(_ request: inout Request) async throws -> Fields {
    try Fields(body: try await request.wholeBody(limits, bodies))
  }

  private func resolve(_ common: SamplingFields) async throws -> LoadedModel {
    let model = try await catalogue.resolve(common.model)
    if common.options.comparesWithModel, common.model == catalogue.base || !model.sharesPasses {
      throw APIError.bad(
        "compare_with_base", "compare_with_base is for side networks; \(common.model.shown) is none")
    }
    return model
  }

  private func tooLong(_ length: String) -> APIError {
    APIError.bad(
      nil, "the prompt has \(length); there is room for \(engine.capacity - 1) tokens", code: "context_length_exceeded")
  }

  private func check(_ prompts: [PreparedPrompt], _ options: GenerationOptions) throws {
    for prompt in prompts {
      guard !prompt.tokens.isEmpty else { throw APIError.bad("prompt", "the prompt is empty") }
      guard prompt.tokens.count < engine.capacity else {
        throw tooLong("\(prompt.tokens.count) tokens")
      }
    }
    // Read here, so that what is wrong with it has a status of its own.
    if options.sampling.grammar != nil { _ = try Sampler(options.sampling, engine.backbone.tokenizer) }
  }

  private func texts(
    _ prompts: [PreparedPrompt], _ common: SamplingFields
  ) -> [(prompt: PreparedPrompt, options: GenerationOptions)] {
    let drawn = UInt32.random(in: 0...UInt32.max)
    return prompts.enumerated().flatMap { index, prompt in
      (0..<common.choices).map { choice in
        (prompt, common.options(choice: index * common.choices + choice, drawn: drawn))
      }
    }
  }

  // MARK: - Answers

  private func answer(
    _ request: Request, _ context: ServerContext, _ texts: [(prompt: PreparedPrompt, options: GenerationOptions)],
    _ place: Admission.Place,
    _ common: SamplingFields, _ translator: @escaping @Sendable () -> some AnswerTranslator
  ) async throws -> Response {
    let engine = engine, metrics = metrics, seconds = limits.seconds
    let begin: @Sendable () -> Choices = { Choices(engine, texts, seconds: seconds) }
    if common.streams {
      return EventStream.response(
        request, context.channel, seconds: limits.seconds, model: common.model, metrics, place, begin, translator)
    }
    let choices = begin()
    let data: Data
    do {
      data = try await request.body.consumeWithInboundCloseHandler { _ in
        var translator = translator(), watch = metrics.watch(common.model)
        for try await (choice, event) in choices.events {
          _ = try translator.take(event, choice: choice)
          watch.take(event)
        }
        // The client has gone.
        guard translator.generations.count == texts.count else { throw CancellationError() }
        return try translator.whole()
      } onInboundClosed: {
        choices.cancel()
      }
    } catch {
      var error = APIError(any: error)
      error.closes = true
      throw error
    }
    withExtendedLifetime(place) {}
    var response = JSON.response(data)
    // Listening for the client's going has taken the connection's input.
    response.headers[.connection] = "close"
    return response
  }
}
