import LadderBackbone
import LadderCore
import LadderData
import LadderInference

/// A text of a request, as it stands or as tokens.
enum RequestText {
  case text(String)
  case tokens([Int32])

  /// A string, a list of strings, tokens, or a list of tokens' lists.
  /// - Parameter count: entries of the model's vocabulary.
  static func all(_ name: String, _ fields: Fields, tokens count: Int) throws -> [RequestText] {
    let wrong = APIError.bad(name, "\(name) must be a string, a list of strings, or tokens")
    guard let value = fields[name] else { throw APIError.bad(name, "\(name) is missing") }
    if let text = value.string { return [.text(text)] }
    let elements = value.elements
    guard value.isList, let first = elements.first else { throw wrong }
    if first.isNumber { return [.tokens(try tokens(elements, name, below: count))] }
    return try elements.map { element in
      // All of one kind.
      guard element.isString == first.isString else { throw wrong }
      if let text = element.string { return .text(text) }
      guard element.isList else { throw wrong }
      return .tokens(try tokens(element.elements, name, below: count))
    }
  }

  private static func tokens(_ elements: [JSONText], _ name: String, below count: Int) throws -> [Int32] {
    try elements.map { element in
      guard let token = Fields.whole(element), (0..<count).contains(token) else {
        let shown = element.source.prefix(20).description.shown
        throw APIError.bad(name, "\(name) holds \(shown); tokens are 0 to \(count - 1)")
      }
      return Int32(token)
    }
  }

  /// As the model reads it.
  func tokens(_ backbone: Backbone, _ options: GenerationOptions = GenerationOptions()) throws -> [Int32] {
    switch self {
    case .text(let text): try backbone.tokens(ofPrompt: text, options)
    case .tokens(let tokens): tokens
    }
  }

  /// Of a text that is not tokens yet.
  var bytes: Int? {
    if case .text(let text) = self { return text.utf8.count }
    return nil
  }

  /// As text.
  func text(_ backbone: Backbone) -> String {
    switch self {
    case .text(let text): text
    case .tokens(let tokens): backbone.tokenizer.text(tokens)
    }
  }
}

extension GenerationEngine {
  /// Whether a text is too long whatever its tokens are: by more bytes than they have on average.
  nonisolated func cannotHold(bytes: Int) -> Bool { bytes > 64 * capacity }
}
