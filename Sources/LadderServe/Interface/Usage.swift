import LadderInference

/// What a request took, in tokens.
struct Usage: Encodable {
  struct PromptDetails: Encodable {
    /// Tokens that an earlier text had in common.
    let cachedTokens: Int
    enum CodingKeys: String, CodingKey { case cachedTokens = "cached_tokens" }
  }

  let promptTokens, completionTokens, totalTokens: Int
  let promptDetails: PromptDetails

  /// - Parameters:
  ///   - prompts: tokens of the prompts, each once.
  ///   - generations: one for each choice, `choices` of each prompt one after another.
  init(prompts: Int, choices: Int, _ generations: [Generation]) {
    promptTokens = prompts
    completionTokens = generations.reduce(0) { $0 + $1.tokens }
    totalTokens = promptTokens + completionTokens
    // A prompt's later choices go on from its first one's, which was read in this request.
    let reused = stride(from: 0, to: generations.count, by: choices).reduce(0) { sum, first in
      sum + (generations[first..<min(first + choices, generations.count)].map(\.reusedTokens).min() ?? 0)
    }
    promptDetails = PromptDetails(cachedTokens: min(prompts, reused))
  }

  enum CodingKeys: String, CodingKey {
    case promptTokens = "prompt_tokens"
    case completionTokens = "completion_tokens"
    case totalTokens = "total_tokens"
    case promptDetails = "prompt_tokens_details"
  }
}

extension Generation {
  /// OpenAI's word for why the text ended.
  var finishReason: String { ended || stop != nil ? "stop" : "length" }
}
