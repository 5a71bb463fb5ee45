import Ladder

/// An answer as it comes: shown piece by piece, and kept with what was thought and what was said apart, as the
/// template's next turn takes them.
struct SpokenAnswer {
  private let isPlain: Bool
  private var said: AnswerText
  private var isThinking = false

  /// - Parameter format: nil where an answer is nothing but its text.
  init(_ format: AnswerFormat?) {
    isPlain = format == nil
    said = AnswerText(format)
  }

  /// - Returns: what is new to see.
  mutating func take(_ piece: String) -> String {
    said.add(piece)
    return isPlain ? piece : shown(said.read())
  }

  /// - Parameter isWhole: whether the model ended it.
  mutating func end(isWhole: Bool) -> String { shown(said.end(isWhole: isWhole)) }

  private mutating func shown(_ deltas: [AnswerReading.Delta]) -> String {
    var shown = ""
    for delta in deltas {
      shown += delta.reasoning
      if !delta.reasoning.isEmpty { isThinking = true }
      if isThinking, !delta.content.isEmpty {
        shown += "\n\n"
        isThinking = false
      }
      shown += delta.content
    }
    return shown
  }

  /// What the conversation goes on with.
  var message: ChatMessage {
    guard let reading = said.reading, reading.calls.isEmpty else {
      return ChatMessage(role: "assistant", content: said.text)
    }
    return ChatMessage(
      role: "assistant", content: reading.content, reasoning: reading.reasoning.isEmpty ? nil : reading.reasoning)
  }
}
