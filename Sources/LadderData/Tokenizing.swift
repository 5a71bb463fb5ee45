/// One message of a conversation.
public struct ChatMessage: Sendable, Equatable {
  /// `system`, `user` or `assistant`, as the model's template knows them.
  public var role: String
  /// The turn's text.
  public var content: String

  /// One turn.
  public init(role: String, content: String) {
    self.role = role
    self.content = content
  }
}

/// What turns text into a model's tokens.
package protocol Tokenizing: Sendable {
  /// Whether the model wants its beginning-of-text token before a text, and that token.
  var addsBeginning: Bool { get }
  var beginning: Int32? { get }
  /// The token that ends a text.
  var end: Int32? { get }
  /// - Parameters:
  ///   - beginning: put the beginning-of-text token first, where the model wants one.
  ///   - special: read control tokens' names as those tokens; false treats them as text.
  func tokens(_ text: String, beginning: Bool, special: Bool) -> [Int32]
  /// Whether the model takes two texts that begin alike as one sample.
  var sharesBeginnings: Bool { get }
  /// A conversation as the model expects it; `opensAnswer` ends it where the assistant's turn begins.
  /// - Throws: `data` where the model has no template for conversations, or none that can be rendered.
  func rendered(_ messages: [ChatMessage], opensAnswer: Bool) throws -> String
}
