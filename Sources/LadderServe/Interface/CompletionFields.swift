/// A request of /v1/completions.
struct CompletionFields {
  var common: SamplingFields
  let prompts: [RequestText]
  /// Whether the prompt stands before its continuation.
  let echoes: Bool

  /// Prompts of one request at most.
  static let mostPrompts = 64

  init(_ fields: Fields, _ limits: ServerSettings.Limits, tokens: Int) throws {
    common = try SamplingFields(fields, limits, tokens: tokens)
    // OpenAI's default for completions.
    if fields["max_tokens"] == nil, fields["max_completion_tokens"] == nil { common.options.maxTokens = 16 }
    echoes = try fields.flag("echo") ?? false
    common.options.logProbabilities = try fields.whole("logprobs", 0...20)
    if echoes, common.options.logProbabilities != nil {
      throw APIError.bad("logprobs", "logprobs of the prompt are not told; leave out echo or logprobs")
    }
    try common.readComparison(fields)
    prompts = try RequestText.all("prompt", fields, tokens: tokens)
    guard prompts.count * common.choices <= Self.mostPrompts else {
      throw APIError.bad("prompt", "a request may have \(Self.mostPrompts) choices at most, n for each prompt")
    }
  }
}
