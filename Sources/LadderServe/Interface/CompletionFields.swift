import LadderBackbone
import LadderCore
import LadderData

/// A request of /v1/completions.
struct CompletionFields {
  enum Text {
    case text(String)
    case tokens([Int32])
  }

  var common: SamplingFields
  let prompts: [Text]
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
    common.options.comparesWithModel = try fields.flag("compare_with_base") ?? false
    prompts = try Self.prompts(fields, tokens: tokens)
    guard prompts.count * common.choices <= Self.mostPrompts else {
      throw APIError.bad("prompt", "a request may have \(Self.mostPrompts) choices at most, n for each prompt")
    }
  }

  private static func prompts(_ fields: Fields, tokens: Int) throws -> [Text] {
    let wrong = APIError.bad("prompt", "prompt must be a string, a list of strings, or tokens")
    guard let prompt = fields["prompt"] else { throw APIError.bad("prompt", "prompt is missing") }
    if let text = prompt.string { return [.text(text)] }
    let elements = prompt.elements
    guard prompt.isList, let first = elements.first else { throw wrong }
    if first.isNumber { return [.tokens(try self.tokens(elements, below: tokens))] }
    return try elements.map { element in
      if let text = element.string { return .text(text) }
      guard element.isList else { throw wrong }
      return .tokens(try self.tokens(element.elements, below: tokens))
    }
  }

  private static func tokens(_ elements: [JSONText], below count: Int) throws -> [Int32] {
    try elements.map { element in
      guard let token = Fields.whole(element), (0..<count).contains(token) else {
        throw APIError.bad(
          "prompt", "prompt holds \(element.source.prefix(20).description.shown); tokens are 0 to \(count - 1)")
      }
      return Int32(token)
    }
  }
}
