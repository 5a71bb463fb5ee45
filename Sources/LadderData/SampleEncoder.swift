import Dispatch
import LadderCore

/// What becomes of a sample longer than the longest allowed.
public enum Overlong: String, Sendable, Codable, CaseIterable {
  /// The prompt's start is cut (a text's end); a sample whose completion alone is too long is dropped.
  case trim
  case drop
}

/// What the cross-entropy of a sample with `choices` is taken over.
public enum Objective: String, Sendable, Codable, CaseIterable {
  /// The whole vocabulary, as of any other sample.
  case tokens
  /// The tokens that the choices would go on with, at each row where they part.
  case choices
  /// Of two answers to one prompt the preferred one is to become likelier against the other.
  case preference
}

/// Turns samples into tokens, all to at most `maxLength`.
package struct SampleEncoder: Sendable {
  let tokenizer: any Tokenizing
  let maxLength: Int
  let overlong: Overlong
  let objective: Objective
  let earlierTurns: EarlierTurns

  package init(
    _ tokenizer: any Tokenizing, maxLength: Int, overlong: Overlong = .trim, objective: Objective = .tokens,
    earlierTurns: EarlierTurns = .separate
  ) {
    self.tokenizer = tokenizer
    self.maxLength = maxLength
    self.overlong = overlong
    self.objective = objective
    self.earlierTurns = earlierTurns
  }

  private var conversations: ConversationEncoder {
    ConversationEncoder(
      tokenizer: tokenizer, maxLength: maxLength, earlierTurns: earlierTurns, cuts: overlong == .trim)
  }

  /// - Parameter name: the data file, for errors.
  package func encode(_ samples: [Sample], name: String) throws -> (samples: [EncodedSample], count: Count) {
    let (encoded, count) = try inParallel(samples) { try encode($0, &$1) }
    if encoded.isEmpty {
      throw LadderError(.data, "\(name): none of the \(samples.count) samples fits `maxLength` \(maxLength); raise it")
    }
    return (encoded, count)
  }

  /// What the objective takes as one.
  /// - Parameter name: the data file, for errors.
  package func examples(_ samples: [Sample], name: String) throws -> (examples: [TrainingExample], count: Count) {
    guard objective == .preference else {
      let (encoded, count) = try encode(samples, name: name)
      return (encoded.map { TrainingExample([$0]) }, count)
    }
    return try pairs(samples, name: name)
  }

  /// Pairs of answers, the preferred one first; both prompts are cut alike.
  package func pairs(_ samples: [Sample], name: String) throws -> (examples: [TrainingExample], count: Count) {
    let (pairs, count) = try inParallel(samples) { sample, count in
      guard case .preference(let chosen, let rejected) = sample.form else {
        throw LadderError(
          .data, "preferences are learned from pairs; write \"chosen\" and \"rejected\" in every sample")
      }
      return try pair(chosen, rejected, &count).map { [$0] } ?? []
    }
    if pairs.isEmpty {
      throw LadderError(.data, "\(name): none of the \(samples.count) pairs fits `maxLength` \(maxLength); raise it")
    }
    return (pairs, count)
  }

  /// Both answers with one prompt, cut alike.
  private func pair(_ chosen: Sample.Form, _ rejected: Sample.Form, _ count: inout Count) throws -> TrainingExample? {
    var forms = [chosen, rejected], sequences = try forms.map(learned), isCut = false
    func excess() -> Int { (sequences.map(\.tokens.count).max() ?? 0) - maxLength }
    while excess() > 0, overlong == .trim {
      let shorter = forms.compactMap(shortened)
      if shorter.count < 2 { break }
      forms = shorter
      sequences = try forms.map(learned)
      isCut = true
    }
    if excess() > 0 {
      isCut = true
      let surplus = excess(), isText = forms.allSatisfy { if case .completion = $0 { true } else { false } }
      sequences = isText && overlong == .trim ? sequences.compactMap { $0.cut(surplus, keeping: kept($0.tokens)) } : []
    }
    let encoded = sequences.compactMap(\.encoded)
    guard encoded.count == 2 else {
      count.dropped += 1
      return nil
    }
    count.trimmed += isCut ? 1 : 0
    return TrainingExample(encoded, shares: tokenizer.sharesBeginnings)
  }

  /// A reply without the oldest turns of its prompt.
  private func shortened(_ form: Sample.Form) -> Sample.Form? {
    guard case .reply(let prompt, let reply) = form else { return nil }
    return conversations.shortened(prompt, keeping: 1).map { .reply(to: $0, with: reply) }
  }

  /// On all threads: batches are drawn by length, so the first step waits for all of them.
  private func inParallel<Encoded: Sendable>(
    _ samples: [Sample], _ encode: @Sendable (Sample, inout Count) throws -> [Encoded]
  ) throws -> ([Encoded], Count) {
    let size = 64, pieces = (samples.count + size - 1) / size
    var results = [Result<([Encoded], Count), any Error>?](repeating: nil, count: pieces)
    results.withUnsafeMutableBufferPointer { results in
      // Each task writes one place.
      nonisolated(unsafe) let results = results
      let threads = max(1, min(tokenizer.threads, pieces))
      DispatchQueue.concurrentPerform(iterations: threads) { thread in
        for piece in stride(from: thread, to: pieces, by: threads) {
          results[piece] = Result {
            var count = Count()
            let encoded = try samples[(piece * size)..<min((piece + 1) * size, samples.count)].flatMap { sample in
              let dropped = count.dropped, own = try sample.placing { try encode(sample, &count) }
              if own.isEmpty, count.dropped == dropped { count.idle += 1 }
              return own
            }
            return (encoded, count)
          }
        }
      }
    }
    return try results.reduce(into: ([], Count())) { all, part in
      guard let (encoded, count) = try part?.get() else { return }
      all.0 += encoded
      all.1 += count
    }
  }

  /// A sample's encodings: one of most, several of a long text or of a conversation whose turns are seen apart.
  package func encode(_ sample: Sample, _ count: inout Count) throws -> [EncodedSample] {
    switch sample.form {
    case .completion(let prompt, let completion):
      // A choice is a label: it is compared with others as it stands, or with its end where one begins as another does.
      // A free completion also has to end.
      let ends = sample.choices.isEmpty || choicesEnd(prompt, sample.choices)
      guard var encoded = fit(completionTokens(prompt, completion, ends: ends, &count), &count) else { return [] }
      if objective == .choices { encoded.rivals = rivals(prompt, encoded.targets, sample.choices, end: ends) }
      return [encoded]
    case .text(let text): return pieces(text, &count)
    case .conversation(let conversation): return try conversations.views(conversation, &count)
    case .reply(let prompt, let reply):
      return try conversations.views(prompt.with(prompt.messages + reply), from: prompt.messages.count, &count)
    case .preference:
      throw LadderError(
        .data, "a pair of \"chosen\" and \"rejected\" is for the objective preference, and for the metric of that name")
    }
  }

  /// Those of a sample, or of both answers of a pair.
  package func sequences(_ sample: Sample, _ count: inout Count) throws -> [EncodedSample] {
    guard case .preference(let chosen, let rejected) = sample.form else { return try encode(sample, &count) }
    return try pair(chosen, rejected, &count)?.sequences ?? []
  }

  private func pieces(_ text: String, _ count: inout Count) -> [EncodedSample] {
    var tokens = tokenizer.tokens(text, beginning: true, special: marks(text, &count))
    if tokens.last != tokenizer.end { tokens += endTokens }
    guard tokens.count > maxLength else {
      return [EncodedSample(sequence: tokens, learned: tokens.map { _ in true })].compactMap(\.self)
    }
    if overlong == .drop {
      count.dropped += 1
      return []
    }
    count.split += 1
    let beginning = Array(tokens.prefix(kept(tokens)))
    return LearnedTokens.pieces(of: tokens, beginning: beginning, length: maxLength).compactMap(\.encoded)
  }

  /// Whether control tokens' names in a text are those tokens.
  func marks(_ text: String, _ count: inout Count) -> Bool {
    let isTemplated = tokenizer.isTemplated(text)
    if isTemplated { count.templated += 1 }
    return isTemplated
  }

  /// All tokens of one answer, and which of them are learned.
  private func learned(_ form: Sample.Form) throws -> LearnedTokens {
    var count = Count()
    switch form {
    case .completion(let prompt, let completion): return completionTokens(prompt, completion, ends: true, &count)
    case .conversation(let conversation): return try conversations.answer(conversation, from: 0)
    case .reply(let prompt, let reply):
      return try conversations.answer(prompt.with(prompt.messages + reply), from: prompt.messages.count)
    case .text, .preference: throw LadderError(.data, "an answer of a pair is a text or a list of messages")
    }
  }

  /// The tokens that a generation starts from, a longer prompt without its start behind the beginning-of-text token; nil
  /// for a longer one that is to be left out.
  package func prompt(_ sample: Sample) throws -> [Int32]? {
    let tokens = try whole(sample), excess = tokens.count - maxLength
    if excess <= 0 { return tokens }
    guard overlong == .trim else { return nil }
    let kept = kept(tokens)
    return Array(tokens[..<kept] + tokens[(kept + excess)...])
  }

  private func whole(_ sample: Sample) throws -> [Int32] {
    switch sample.form {
    case .completion(let prompt, _): return text(prompt)
    case .text(let text): return self.text(text)
    case .reply(let conversation, _): return try tokenizer.prompt(conversation)
    case .preference(let chosen, _): return try whole(Sample(chosen))
    case .conversation(let conversation):
      let asked =
        conversation.messages.last?.role == "assistant" ? conversation.messages.dropLast() : conversation.messages[...]
      return try tokenizer.prompt(conversation.with(Array(asked)))
    }
  }

  private func text(_ text: String) -> [Int32] {
    tokenizer.tokens(text, beginning: true, special: tokenizer.isTemplated(text))
  }

  // MARK: - Parts

  private var endTokens: [Int32] { tokenizer.end.map { [$0] } ?? [] }

  /// - Parameter start: the prompt's tokens, where they are known.
  func completionTokens(
    _ prompt: String, _ completion: String, ends: Bool, start known: [Int32]? = nil, _ count: inout Count
  ) -> LearnedTokens {
    let special = marks(prompt.isEmpty ? completion : prompt, &count)
    let start = known ?? tokenizer.tokens(prompt, beginning: true, special: special)
    // Read together, so that no space is put before the completion; read apart where a token would straddle the two.
    let whole = tokenizer.tokens(prompt + completion, beginning: true, special: special)
    var rest = whole.starts(with: start) ? Array(whole.dropFirst(start.count)) : []
    if rest.isEmpty { rest = tokenizer.tokens(ofContinuation: completion, special: special) }
    var result = LearnedTokens()
    result.append(start, false)
    result.append(rest, true)
    if ends, rest.last != tokenizer.end { result.append(endTokens, true) }
    return result
  }

  /// How many tokens stay at the start: that which begins a text.
  private func kept(_ tokens: [Int32]) -> Int {
    tokens.first == tokenizer.beginning && tokenizer.addsBeginning ? 1 : 0
  }

  /// Cuts the start of what carries no loss, keeping the beginning-of-text token.
  func fit(_ sample: LearnedTokens, _ count: inout Count) -> EncodedSample? {
    let excess = sample.tokens.count - maxLength
    guard excess > 0 else { return sample.encoded }
    guard overlong == .trim, let cut = sample.cut(excess, keeping: kept(sample.tokens)) else {
      count.dropped += 1
      return nil
    }
    count.trimmed += 1
    return cut.encoded
  }
}
