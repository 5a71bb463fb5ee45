import Foundation
import LadderBackbone
import LadderData

/// What ends an answer besides the model's own end of text: what its chat template writes behind an assistant's turn.
package struct AnswerEnd: Sendable {
  package var tokens: Set<Int32> = []
  package var texts: [String] = []

  /// Nothing besides.
  package init() {}

  /// A template that cannot be rendered, or that writes nothing but blanks, adds nothing.
  package init(templateOf language: ModelVocabulary) {
    let asked = ChatMessage(role: "user", content: "Q"), answer = ChatMessage(role: "assistant", content: "A")
    func rendered(_ messages: [ChatMessage], opensAnswer: Bool) -> String? {
      try? language.chatTemplate().render(Conversation(messages), opensAnswer: opensAnswer)
    }
    guard let open = rendered([asked], opensAnswer: true),
      let whole = rendered([asked, answer], opensAnswer: false), whole.hasPrefix(open + "A")
    else { return }
    let end = whole.dropFirst(open.count + 1).trimmingCharacters(in: .whitespacesAndNewlines)
    guard !end.isEmpty, let first = language.tokenizer.tokens(end, special: true).first else { return }
    // A control token is no text.
    if language.tokenizer.bytes(of: first).isEmpty { tokens = [first] } else { texts = [end] }
  }
}
