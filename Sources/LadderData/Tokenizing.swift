/// What turns text into a model's tokens.
package protocol Tokenizing: Sendable {
  /// Whether the model wants its beginning-of-text token before a text, and that token.
  var addsBeginning: Bool { get }
  var beginning: Int32? { get }
  /// The token that ends a text.
  var end: Int32? { get }
  /// The names of the control tokens, as templates write them, the longest first.
  var controlNames: [String] { get }
  /// - Parameters:
  ///   - beginning: put the beginning-of-text token first, where the model wants one and the text does not have it.
  ///   - special: read control tokens' names as those tokens; false treats them as text.
  func tokens(_ text: String, beginning: Bool, special: Bool) -> [Int32]
  /// A token's text, which may be a part of a character, as UTF-8.
  func bytes(of token: Int32) -> [UInt8]
  /// Whether a token is one of those that templates alone write.
  func isControl(_ token: Int32) -> Bool
  /// Threads that texts are read on.
  var threads: Int { get }
  /// Whether the model takes two texts that begin alike as one sample.
  var sharesBeginnings: Bool { get }
  /// A conversation as the model expects it; `opensAnswer` ends it where the assistant's turn begins.
  /// - Throws: `data` where the model has no template for conversations, or it refuses this one.
  func rendered(_ conversation: Conversation, opensAnswer: Bool) throws -> RenderedText
  /// The tokens of a rendered conversation, the beginning-of-text token first where the model wants one; its place is
  /// nothing.
  func tokens(of rendered: RenderedText) throws -> PlacedTokens
}

extension Tokenizing {
  /// The tokens of a conversation up to where the assistant's answer begins.
  package func prompt(_ conversation: Conversation) throws -> [Int32] {
    try tokens(of: rendered(conversation, opensAnswer: true)).tokens
  }

  /// Whether a text already went through a chat template: it begins with the name of a control token, whose names in
  /// it are then those tokens.
  package func isTemplated(_ text: String) -> Bool {
    text.first.map { first in controlNames.contains { $0.first == first && text.hasPrefix($0) } } ?? false
  }

  /// A text's tokens where it follows another, read alone.
  /// Some tokenizers put a space before a text's start: they read it behind a line's end.
  package func tokens(ofContinuation text: String, special: Bool) -> [Int32] {
    let alone = tokens(text, beginning: false, special: special), space = UInt8(ascii: " ")
    guard text.utf8.first != space, let first = alone.first, bytes(of: first).first == space else {
      return alone
    }
    let line = tokens("\n", beginning: false, special: special)
    let both = tokens("\n" + text, beginning: false, special: special)
    return both.starts(with: line) && both.count > line.count ? Array(both.dropFirst(line.count)) : alone
  }
}
