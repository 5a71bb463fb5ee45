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
  /// Samples that did not go through whole.
  package struct Count: Sendable, Equatable {
    package var trimmed = 0
    package var dropped = 0
    package init() {}
  }

  let tokenizer: any Tokenizing
  let maxLength: Int
  let overlong: Overlong
  let objective: Objective

  package init(_ tokenizer: any Tokenizing, maxLength: Int, overlong: Overlong = .trim, objective: Objective = .tokens)
  {
    self.tokenizer = tokenizer
    self.maxLength = maxLength
    self.overlong = overlong
    self.objective = objective
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
          .data, "\(name): preferences are learned from pairs; write \"chosen\" and \"rejected\" in every sample")
      }
      let sequences = try [learned(chosen), learned(rejected)],
        excess = (sequences.map(\.tokens.count).max() ?? 0) - maxLength
      var own = Count()
      let fitting = sequences.compactMap { fit($0, excess: excess, &own) }
      count.trimmed += own.trimmed > 0 ? 1 : 0
      count.dropped += own.dropped > 0 ? 1 : 0
      return fitting.count == 2 ? TrainingExample(fitting, shares: tokenizer.sharesBeginnings) : nil
    }
    if pairs.isEmpty {
      throw LadderError(.data, "\(name): none of the \(samples.count) pairs fits `maxLength` \(maxLength); raise it")
    }
    return (pairs, count)
  }

  /// On all cores: batches are drawn by length, so the first step waits for all of them.
  private func inParallel<Encoded: Sendable>(
    _ samples: [Sample], _ encode: @Sendable (Sample, inout Count) throws -> Encoded?
  ) throws -> ([Encoded], Count) {
    let size = 64, pieces = (samples.count + size - 1) / size
    var results = [Result<([Encoded], Count), any Error>?](repeating: nil, count: pieces)
    results.withUnsafeMutableBufferPointer { results in
      // Each task writes one place.
      nonisolated(unsafe) let results = results
      DispatchQueue.concurrentPerform(iterations: pieces) { piece in
        results[piece] = Result {
          var count = Count()
          let encoded = try samples[(piece * size)..<min((piece + 1) * size, samples.count)].compactMap {
            try encode($0, &count)
          }
          return (encoded, count)
        }
      }
    }
    return try results.reduce(into: ([], Count())) { all, part in
      guard let (encoded, count) = try part?.get() else { return }
      all.0 += encoded
      all.1.trimmed += count.trimmed
      all.1.dropped += count.dropped
    }
  }

  package func encode(_ sample: Sample, _ count: inout Count) throws -> EncodedSample? {
    switch sample.form {
    case .completion(let prompt, let completion):
      // A choice is a label: it is compared with others as it stands. A free completion also has to end.
      var encoded = fit(completionTokens(prompt, completion, ends: sample.choices.isEmpty), &count)
      if objective == .choices, let targets = encoded?.targets {
        encoded?.rivals = rivals(prompt, targets, sample.choices)
      }
      return encoded
    case .text(let text):
      let tokens = tokenizer.tokens(text, beginning: true, special: false) + endTokens
      guard tokens.count > maxLength else { return EncodedSample(sequence: tokens, learned: tokens.map { _ in true }) }
      if overlong == .drop {
        count.dropped += 1
        return nil
      }
      count.trimmed += 1
      return EncodedSample(
        sequence: Array(tokens.prefix(maxLength)), learned: [Bool](repeating: true, count: maxLength))
    case .conversation, .reply: return fit(try learned(sample.form), &count)
    case .preference:
      throw LadderError(
        .data, "a pair of \"chosen\" and \"rejected\" is for the objective preference, and for the metric of that name")
    }
  }

  /// All tokens of one answer, and which of them are learned.
  private func learned(_ form: Sample.Form) throws -> Learned {
    switch form {
    case .completion(let prompt, let completion): completionTokens(prompt, completion, ends: true)
    case .conversation(let messages): try conversationTokens(messages)
    case .reply(let prompt, let reply): try conversationTokens(prompt + reply, from: prompt.count)
    case .text, .preference: throw LadderError(.data, "an answer of a pair is a text or a list of messages")
    }
  }

  /// One encoding per choice, in their order; nil where one does not fit.
  package func encodeChoices(_ sample: Sample, _ count: inout Count) -> [EncodedSample]? {
    guard case .completion(let prompt, _) = sample.form else { return nil }
    var own = Count()
    let encoded = sample.choices.map { fit(completionTokens(prompt, $0, ends: false), &own) }
    count.trimmed += own.trimmed > 0 ? 1 : 0
    count.dropped += own.dropped > 0 ? 1 : 0
    return encoded.contains { $0 == nil } ? nil : encoded.compactMap { $0 }
  }

  /// The tokens that a generation starts from.
  package func prompt(_ sample: Sample) throws -> [Int32] {
    switch sample.form {
    case .completion(let prompt, _): return tokenizer.tokens(prompt, beginning: true, special: false)
    case .text(let text): return tokenizer.tokens(text, beginning: true, special: false)
    case .reply(let messages, _):
      return withBeginning(
        tokenizer.tokens(try tokenizer.rendered(messages, opensAnswer: true), beginning: false, special: true))
    case .preference(let chosen, _): return try self.prompt(Sample(chosen))
    case .conversation(let messages):
      let asked = messages.last?.role == "assistant" ? Array(messages.dropLast()) : messages
      return withBeginning(
        tokenizer.tokens(try tokenizer.rendered(asked, opensAnswer: true), beginning: false, special: true))
    }
  }

  // MARK: - Parts

  private struct Learned {
    var tokens: [Int32] = []
    var flags: [Bool] = []
    mutating func append(_ more: [Int32], _ flag: Bool) {
      tokens += more
      flags += more.map { _ in flag }
    }
  }

  private var endTokens: [Int32] { tokenizer.end.map { [$0] } ?? [] }

  private func completionTokens(_ prompt: String, _ completion: String, ends: Bool) -> Learned {
    let start = tokenizer.tokens(prompt, beginning: true, special: false)
    // Read together, so that no space is put before the completion; read apart where a token would straddle the two.
    let whole = tokenizer.tokens(prompt + completion, beginning: true, special: false)
    var rest = whole.starts(with: start) ? Array(whole.dropFirst(start.count)) : []
    if rest.isEmpty { rest = tokenizer.tokens(completion, beginning: false, special: false) }
    var result = Learned()
    result.append(start, false)
    result.append(rest, true)
    if ends { result.append(endTokens, true) }
    return result
  }

  /// What each target competes with: the next tokens of the choices that begin as the completion does.
  private func rivals(_ prompt: String, _ targets: [Int32], _ choices: [String]) -> [[Int32]] {
    let sequences = choices.map { choice in
      let all = completionTokens(prompt, choice, ends: false)
      return EncodedSample(sequence: all.tokens, learned: all.flags)?.targets ?? []
    }
    return targets.indices.map { i in
      let next = Set(sequences.filter { $0.count > i && $0.starts(with: targets[..<i]) }.map { $0[i] })
      return next.count > 1 && next.contains(targets[i]) ? next.sorted() : []
    }
  }

  /// - Parameter first: the first message that may be learned.
  private func conversationTokens(_ messages: [ChatMessage], from first: Int = 0) throws -> Learned {
    var result = Learned()
    var done = ""
    for (i, message) in messages.enumerated() where message.role == "assistant" && i >= first {
      let asked = try tokenizer.rendered(Array(messages[..<i]), opensAnswer: true)
      let answered = try tokenizer.rendered(Array(messages[...i]), opensAnswer: false)
      guard asked.hasPrefix(done), answered.hasPrefix(asked) else {
        throw LadderError(
          .data,
          "the model's chat template rewrites earlier turns, so the assistant's turns cannot be told apart; "
            + "write prompt and completion"
        )
      }
      result.append(tokenizer.tokens(String(asked.dropFirst(done.count)), beginning: false, special: true), false)
      result.append(tokenizer.tokens(String(answered.dropFirst(asked.count)), beginning: false, special: true), true)
      done = answered
    }
    let before = result.tokens.count
    result.tokens = withBeginning(result.tokens)
    if result.tokens.count > before { result.flags.insert(false, at: 0) }
    return result
  }

  private func withBeginning(_ tokens: [Int32]) -> [Int32] {
    guard tokenizer.addsBeginning, let beginning = tokenizer.beginning, tokens.first != beginning else { return tokens }
    return [beginning] + tokens
  }

  /// Cuts the start of what carries no loss, keeping the beginning-of-text token.
  /// - Parameter excess: tokens to cut, where that is not what is too many.
  private func fit(_ sample: Learned, excess: Int? = nil, _ count: inout Count) -> EncodedSample? {
    let excess = excess ?? sample.tokens.count - maxLength
    guard excess > 0 else { return EncodedSample(sequence: sample.tokens, learned: sample.flags) }
    let kept = sample.tokens.first == tokenizer.beginning && tokenizer.addsBeginning ? 1 : 0
    let unlearned = sample.flags.prefix { !$0 }.count
    guard overlong == .trim, unlearned - kept > excess else {
      count.dropped += 1
      return nil
    }
    count.trimmed += 1
    let cut = kept..<(kept + excess)
    var tokens = sample.tokens, flags = sample.flags
    tokens.removeSubrange(cut)
    flags.removeSubrange(cut)
    return EncodedSample(sequence: tokens, learned: flags)
  }
}
