import Ladder

/// An answer as it comes: shown piece by piece, and kept with what was thought and what was said apart, as the
/// template's next turn takes them.
struct SpokenAnswer {
  private let format: AnswerFormat?
  private var text = ""
  private var reading: AnswerReading?
  private var isThinking = false, isRead = false

  /// - Parameter format: nil where an answer is nothing but its text.
  init(_ format: AnswerFormat?) { self.format = format }

  /// - Returns: what is new to see.
  mutating func take(_ piece: String) -> String {
    text += piece
    return format == nil ? piece : read(isPartial: true)
  }

  /// - Parameter isWhole: whether the model ended it.
  mutating func end(isWhole: Bool) -> String {
    if format == nil { return "" }
    let rest = read(isPartial: !isWhole)
    guard isWhole, !isRead, reading?.calls.isEmpty ?? true, reading?.reasoning.isEmpty ?? true else { return rest }
    // What the format cannot read to its end is shown as it stands, and kept so.
    let told = reading?.content ?? ""
    reading = nil
    return text.hasPrefix(told) ? rest + text.dropFirst(told.count) : "\n" + text
  }

  private mutating func read(isPartial: Bool) -> String {
    guard let format else { return "" }
    let whole = isPartial ? nil : try? format.read(text, choice: 0, isPartial: false)
    isRead = whole != nil
    guard let reading = whole ?? (try? format.read(text, choice: 0, isPartial: true)) else { return "" }
    self.reading = reading
    var shown = ""
    for delta in reading.deltas {
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
    guard let reading, reading.calls.isEmpty else { return ChatMessage(role: "assistant", content: text) }
    return ChatMessage(
      role: "assistant", content: reading.content, reasoning: reading.reasoning.isEmpty ? nil : reading.reasoning)
  }
}
