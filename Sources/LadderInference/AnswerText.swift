import LadderBackbone

/// An answer's text as it comes, and what its template's format makes of it.
package struct AnswerText: Sendable {
  private let format: AnswerFormat?
  private let choice: Int
  package private(set) var text = ""
  /// What was read so far; nil where the text is nothing but its content.
  package private(set) var reading: AnswerReading?

  /// - Parameter format: nil where an answer is nothing but its text.
  package init(_ format: AnswerFormat?, choice: Int = 0) {
    self.format = format
    self.choice = choice
  }

  package mutating func add(_ piece: String) { text += piece }

  /// What is new of a text that goes on.
  package mutating func read() -> [AnswerReading.Delta] { take(partial()) }

  /// What is new of a text that has ended. One that is cut short, or is none of the format's, says what a part of it
  /// says; what the format cannot read to its end is told as it stands, behind what was told of it.
  /// - Parameter isWhole: whether the model ended it.
  package mutating func end(isWhole: Bool) -> [AnswerReading.Delta] {
    guard let format else { return [] }
    if isWhole, let whole = try? format.read(text, choice: choice, isPartial: false) { return take(whole) }
    let part = partial(), told = (part ?? reading)?.content ?? ""
    let isRead = part.map { !isWhole || !$0.calls.isEmpty || !$0.reasoning.isEmpty } ?? false
    guard !isRead, text.hasPrefix(told) else { return take(part) }
    reading = nil
    let new = (part?.deltas.map(\.content).joined() ?? "") + text.dropFirst(told.count)
    return new.isEmpty ? [] : [AnswerReading.Delta(content: new)]
  }

  private func partial() -> AnswerReading? { try? format?.read(text, choice: choice, isPartial: true) }

  private mutating func take(_ new: AnswerReading?) -> [AnswerReading.Delta] {
    guard let new else { return [] }
    reading = new
    return new.deltas
  }
}
