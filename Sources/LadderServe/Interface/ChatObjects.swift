import LadderBackbone
import LadderInference

/// A call of a tool, or a part of one in a stream.
struct CallObject: Encodable {
  struct Function: Encodable {
    let name: String?
    let arguments: String
  }
  /// In a stream alone.
  var index: Int?
  let id: String?
  let type: String?
  let function: Function

  init(_ call: AnswerReading.Call) {
    id = call.id
    type = "function"
    function = Function(name: call.name, arguments: call.arguments)
  }

  /// The first part of a call has its name and number.
  init(part call: AnswerReading.Call, index: Int) {
    self.index = index
    id = call.id.isEmpty ? nil : call.id
    type = call.id.isEmpty ? nil : "function"
    function = Function(name: call.name.isEmpty ? nil : call.name, arguments: call.arguments)
  }
}

/// An answer's message.
struct MessageObject: Encodable {
  let role = "assistant"
  @OrNull var content: String?
  @OrNull var refusal: String? = nil
  var reasoning: String?
  var calls: [CallObject]?

  enum CodingKeys: String, CodingKey {
    case role, content, refusal
    case reasoning = "reasoning_content"
    case calls = "tool_calls"
  }
}

/// What is new of an answer.
struct DeltaObject: Encodable {
  var role: String?
  var content: String?
  var reasoning: String?
  var calls: [CallObject]?

  enum CodingKeys: String, CodingKey {
    case role, content
    case reasoning = "reasoning_content"
    case calls = "tool_calls"
  }
}

/// One of an answer's choices, whole or as a part of a stream.
struct ChatChoice: Encodable {
  let index: Int
  var message: MessageObject?
  var delta: DeltaObject?
  @OrNull var probabilities: TokenProbabilities? = nil
  @OrNull var finishReason: String? = nil

  enum CodingKeys: String, CodingKey {
    case index, message, delta
    case probabilities = "logprobs"
    case finishReason = "finish_reason"
  }
}

/// A completion's choice, whole or as a part of a stream.
struct CompletionChoice: Encodable {
  let index: Int
  let text: String
  @OrNull var probabilities: CompletionProbabilities? = nil
  @OrNull var finishReason: String? = nil

  enum CodingKeys: String, CodingKey {
    case index, text
    case probabilities = "logprobs"
    case finishReason = "finish_reason"
  }
}

/// A completion's tokens with their probabilities, in the older form.
struct CompletionProbabilities: Encodable {
  var tokens: [String] = []
  var tokenLogprobs: [Double] = []
  var topLogprobs: [[String: Double]] = []
  var textOffset: [Int] = []
  var baseLogprobs: [Double]?

  enum CodingKeys: String, CodingKey {
    case tokens
    case tokenLogprobs = "token_logprobs"
    case topLogprobs = "top_logprobs"
    case textOffset = "text_offset"
    case baseLogprobs = "base_logprobs"
  }

  /// - Parameter offset: code points before these tokens; afterwards those before the next.
  /// Nil where probabilities were not asked for.
  init?(_ generated: [GeneratedToken], _ options: GenerationOptions, offset: inout Int) {
    guard options.logProbabilities != nil else { return nil }
    for token in generated {
      let text = String(decoding: token.bytes, as: UTF8.self)
      tokens.append(text)
      tokenLogprobs.append(JSON.logarithm(token.logProbability))
      topLogprobs.append(
        Dictionary(
          token.likeliest.map { (String(decoding: $0.bytes, as: UTF8.self), JSON.logarithm($0.logProbability)) },
          uniquingKeysWith: max))
      textOffset.append(offset)
      // One begins wherever a byte does not go on with another: a token may be part of one.
      offset += token.bytes.reduce(0) { $0 + ($1 & 0xC0 == 0x80 ? 0 : 1) }
    }
    if options.comparesWithModel { baseLogprobs = generated.map { JSON.logarithm($0.modelLogProbability) } }
  }
}

/// An answer, or a part of a stream of one.
struct AnswerObject<Choice: Encodable>: Encodable {
  let id, object, model: String
  let created: Int
  var choices: [Choice]
  var usage: Usage?
}
