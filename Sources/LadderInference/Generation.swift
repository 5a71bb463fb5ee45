import LadderBackbone
import LadderCore
import LadderData

extension LadderModel {
  /// Continues a prompt, token by token, with the backbone's KV cache and the side network's own.
  /// - Parameter onText: called with each piece of text as it comes; a piece holds whole characters, and nothing of a
  ///   stop text. Bytes that are no character come as U+FFFD.
  /// - Throws: `usage` for a prompt without a token, or with a zero byte, and for an empty stop text; `interrupted`
  ///   where the task is cancelled.
  public func generate(
    _ prompt: String, options: GenerationOptions = GenerationOptions(), onText: (String) -> Void = { _ in }
  ) throws(LadderError) -> Generation {
    try LadderError.unify { try generate(try backbone.tokens(ofPrompt: prompt, options), options, AnswerEnd(), onText) }
  }

  /// Answers a conversation, rendered by the model's chat template or by the one that the run was trained with.
  /// - Throws: `data` where there is no template, or it refuses the conversation; otherwise as for a prompt.
  public func generate(
    _ conversation: Conversation, options: GenerationOptions = GenerationOptions(),
    onText: (String) -> Void = { _ in }
  ) throws(LadderError) -> Generation {
    try LadderError.unify {
      try generate(try language.prompt(conversation), options, AnswerEnd(templateOf: language), onText)
    }
  }

  private func generate(
    _ tokens: [Int32], _ options: GenerationOptions, _ end: AnswerEnd, _ onText: (String) -> Void
  ) throws -> Generation {
    guard (1...1 << 24).contains(options.maxTokens) else {
      throw LadderError(.usage, "`maxTokens` must be 1 to \(1 << 24)")
    }
    let loop = try GenerationLoop(backbone, .init(tokens: tokens.count + options.maxTokens, texts: 1, reuses: false))
    var result: Result<Generation, LadderError>?
    try withoutActuallyEscaping(onText) { onText in
      // Where the task is cancelled the text still holds it.
      defer { loop.clear() }
      try loop.add(Prompt(tokens, options: options, end: end), to: AdaptedModel(predictor)) { update in
        switch update {
        case .began: break
        case .piece(let text, _): if !text.isEmpty { onText(text) }
        case .ended(let ended): result = ended
        }
      }
      while try loop.step() {}
    }
    guard let result else { throw LadderError(.engine, "the generation did not end") }
    return try result.get()
  }

  /// Continues many prompts, the likeliest token at every step, several texts at a time.
  /// - Parameters:
  ///   - texts: at a time.
  ///   - ends: what ends each text besides the model's own end.
  ///   - done: called with each prompt's index and its text, in the order in which they end.
  package func generate(
    _ prompts: [[Int32]], texts: Int, maxTokens: Int, ends: [AnswerEnd], done: (Int, Generation) throws -> Void
  ) throws {
    let longest = prompts.map(\.count).max() ?? 1, model = AdaptedModel(predictor)
    // More go through no pass together.
    let texts = min(texts, ForwardPass.mostTexts)
    let loop = try GenerationLoop(backbone, .init(tokens: texts * (longest + maxTokens), texts: texts, reuses: false))
    var ended: [(Int, Result<Generation, LadderError>)] = []
    var options = GenerationOptions()
    options.maxTokens = maxTokens
    for (index, prompt) in prompts.enumerated() {
      try loop.add(Prompt(prompt, options: options, end: ends[index]), to: model) { update in
        if case .ended(let result) = update { ended.append((index, result)) }
      }
    }
    while try loop.step() {
      let now = ended
      ended = []
      for (index, result) in now { try done(index, try result.get()) }
    }
    for (index, result) in ended { try done(index, try result.get()) }
  }
}

extension Backbone {
  /// - Throws: `usage` for a prompt with a zero byte.
  package func tokens(ofPrompt prompt: String, _ options: GenerationOptions) throws(LadderError) -> [Int32] {
    if prompt.unicodeScalars.contains("\0") { throw LadderError(.usage, "the prompt holds a zero byte; remove it") }
    return tokenizer.tokens(prompt, beginning: true, special: options.parsesSpecial || isTemplated(prompt))
  }
}
