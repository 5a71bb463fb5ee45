import LadderInference

/// A chat's tokens with their probabilities, as OpenAI tells them.
struct TokenProbabilities: Encodable {
  struct Candidate: Encodable {
    let token: String
    let logprob: Double
    let bytes: [UInt8]
  }

  struct Token: Encodable {
    let token: String
    let logprob: Double
    let bytes: [UInt8]
    let topLogprobs: [Candidate]
    /// The same token's for the base model alone, where that was asked for.
    let baseLogprob: Double?

    enum CodingKeys: String, CodingKey {
      case token, logprob, bytes
      case topLogprobs = "top_logprobs"
      case baseLogprob = "base_logprob"
    }
  }

  let content: [Token]

  /// Nil where probabilities were not asked for.
  init?(_ tokens: [GeneratedToken], _ options: GenerationOptions) {
    guard options.logProbabilities != nil else { return nil }
    content = tokens.map { token in
      Token(
        token: String(decoding: token.bytes, as: UTF8.self), logprob: JSON.logarithm(token.logProbability),
        bytes: token.bytes,
        topLogprobs: token.likeliest.map {
          Candidate(
            token: String(decoding: $0.bytes, as: UTF8.self), logprob: JSON.logarithm($0.logProbability),
            bytes: $0.bytes)
        }, baseLogprob: token.modelLogProbability.map { JSON.logarithm($0) })
    }
  }
}
