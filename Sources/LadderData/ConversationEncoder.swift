import LadderCore

/// What becomes of earlier turns where the model's chat template renders them otherwise once others follow (thinking
/// left out of what is past, for one): at use the model never writes them as they stand in the whole conversation.
public enum EarlierTurns: String, Sendable, Codable, CaseIterable {
  /// Each is learned in a view of its own, the conversation up to it.
  case separate
  /// They are not learned.
  case omit
}

/// Turns conversations into tokens: rendered whole by the model's template and tokenised once, as at use, with the
/// assistant's turns found in the text.
struct ConversationEncoder {
  let tokenizer: any Tokenizing
  let maxLength: Int
  let earlierTurns: EarlierTurns
  let cuts: Bool

  /// The views of a conversation that together learn each of its learned turns once.
  /// - Parameter first: the first message that may be learned.
  func views(
    _ conversation: Conversation, from first: Int = 0, _ count: inout SampleEncoder.Count
  ) throws -> [EncodedSample] {
    var remaining = learnedTurns(conversation.messages, from: first, &count)
    var result: [EncodedSample] = []
    while let last = remaining.last {
      let view = conversation.with(Array(conversation.messages[...last]))
      let fitted: (kept: Conversation, rendered: Rendering)?
      do { fitted = try fitting(view) } catch  where last < conversation.messages.count - 1 && Self.isRefusal(error) {
        // A template may want a question that comes later: this turn is never asked for as it stands.
        _ = try tokenizer.rendered(conversation, opensAnswer: false)
        count.omittedTurns += 1
        remaining.removeLast()
        continue
      }
      guard let (kept, rendered) = fitted else {
        // Not even with its own question alone.
        count.dropped += 1
        remaining.removeLast()
        continue
      }
      let gone = view.messages.count - kept.messages.count
      let spans = try spans(of: remaining, in: kept, without: gone, rendered: rendered.text)
      guard let sample = learned(rendered.placed, spans.map(\.range)).encoded else {
        remaining.removeLast()
        continue
      }
      result.append(sample)
      if gone > 0 { count.trimmed += 1 }
      let done = Set(spans.map(\.turn) + [last])
      remaining.removeAll { done.contains($0) }
      if earlierTurns == .omit {
        // Those that this view holds and rewrites; what it was cut by has a view of its own.
        let start = view.messages.prefix { Self.isSystem($0) }.count, all = remaining.count
        remaining.removeAll { $0 >= start + gone }
        count.omittedTurns += all - remaining.count
      }
      if !remaining.isEmpty { count.views += 1 }
    }
    return result.reversed()
  }

  /// One answer of a pair: all learned turns that the last view holds, not cut.
  func answer(_ conversation: Conversation, from first: Int) throws -> LearnedTokens {
    var count = SampleEncoder.Count()
    let turns = learnedTurns(conversation.messages, from: first, &count)
    guard let last = turns.last else { return LearnedTokens() }
    let view = conversation.with(Array(conversation.messages[...last]))
    let rendered = try render(view)
    return learned(rendered.placed, try spans(of: turns, in: view, without: 0, rendered: rendered.text).map(\.range))
  }

  /// The conversation without its oldest turns, where that is what it takes to fit; nil where nothing is left to leave
  /// out. The system's turns and the last `kept` messages stay.
  func shortened(_ conversation: Conversation, keeping kept: Int) -> Conversation? {
    let messages = conversation.messages
    let start = messages.prefix { Self.isSystem($0) }.count
    // A conversation goes on from a question.
    var next = start + 1
    while next < messages.count - kept, messages[next].role != "user" { next += 1 }
    guard next <= messages.count - kept, next < messages.count, messages[next].role == "user" else { return nil }
    return conversation.with(Array(messages[..<start] + messages[next...]))
  }

  private static func isRefusal(_ error: any Error) -> Bool { (error as? LadderError)?.kind == .data }

  private static func isSystem(_ message: ChatMessage) -> Bool { ["system", "developer"].contains(message.role) }

  private func learnedTurns(
    _ messages: [ChatMessage], from first: Int, _ count: inout SampleEncoder.Count
  ) -> [Int] {
    messages.indices.filter { index in
      guard index >= first, messages[index].role == "assistant", messages[index].isLearned else { return false }
      if messages[index].isEmpty { count.emptyTurns += 1 }
      return !messages[index].isEmpty
    }
  }

  // MARK: - Rendering

  private struct Rendering {
    var text: RenderedText
    var placed: PlacedTokens
  }

  private func render(_ conversation: Conversation) throws -> Rendering {
    let text = try tokenizer.rendered(conversation, opensAnswer: false)
    return Rendering(text: text, placed: try tokenizer.tokens(of: text))
  }

  /// The view cut at turns until it fits; nil where the last turn does not fit with its question, or may not be cut.
  private func fitting(_ view: Conversation) throws -> (kept: Conversation, rendered: Rendering)? {
    var kept = view, rendered = try render(view)
    while rendered.placed.tokens.count > maxLength {
      guard cuts, let shorter = shortened(kept, keeping: 2) else { return nil }
      kept = shorter
      rendered = try render(kept)
    }
    return (kept, rendered)
  }

  /// Where the learned turns stand in the rendered view, of those that stand there as they would be written at use.
  /// - Parameters:
  ///   - turns: messages of the conversation before it was cut.
  ///   - gone: how many messages the cut took from behind the system's.
  private func spans(
    of turns: [Int], in view: Conversation, without gone: Int, rendered: RenderedText
  ) throws -> [(turn: Int, range: Range<Int>)] {
    let messages = view.messages, start = messages.prefix { Self.isSystem($0) }.count
    return try turns.compactMap { turn in
      let place = turn < start ? turn : turn - gone
      guard place >= 0, turn < start || turn >= start + gone, place < messages.count else { return nil }
      let isLast = place == messages.count - 1
      let answered: RenderedText
      do {
        answered = isLast ? rendered : try tokenizer.rendered(view.with(Array(messages[...place])), opensAnswer: false)
      } catch  where Self.isRefusal(error) {
        return nil
      }
      guard rendered.bytes.starts(with: answered.bytes) else { return nil }
      // What comes before the first message has no question to open an answer to.
      let asked =
        place == 0
        ? try opening(view)
        : try tokenizer.rendered(view.with(Array(messages[..<place])), opensAnswer: true).bytes
      let common = zip(asked, answered.bytes).prefix { $0 == $1 }.count
      // Where a template opens an answer otherwise than it renders one, the last turn is learned from there; another
      // has to be seen as it would be written.
      guard isLast || common == asked.count else { return nil }
      return common < answered.bytes.count ? (turn, common..<answered.bytes.count) : nil
    }
  }

  /// The start of a conversation that the assistant begins: what two first turns have in common.
  private func opening(_ view: Conversation) throws -> [UInt8] {
    let texts = try ["a", "b"].map { content in
      try tokenizer.rendered(view.with([ChatMessage(role: "assistant", content: content)]), opensAnswer: false).bytes
    }
    return zip(texts[0], texts[1]).prefix { $0 == $1 }.map(\.0)
  }

  private func learned(_ placed: PlacedTokens, _ ranges: [Range<Int>]) -> LearnedTokens {
    var result = LearnedTokens(tokens: placed.tokens, flags: [])
    var start = 0
    for end in placed.ends {
      result.flags.append(start < end && ranges.contains { start < $0.upperBound && end > $0.lowerBound })
      start = end
    }
    return result
  }
}
