import CChat
import Foundation
import LadderCore
import LadderData

/// What an answer of a conversation may be.
public struct AnswerRules: Sendable, Equatable {
  /// Whether tools are called.
  public enum ToolChoice: Sendable, Equatable {
    /// As the model sees fit.
    case auto
    /// Never.
    case none
    /// At least one.
    case required
    /// The one of this name.
    case function(String)
  }

  /// Counts where the conversation has tools.
  public var toolChoice = ToolChoice.auto
  /// Whether several tools may be called in one answer.
  public var callsInParallel = false
  /// A JSON schema that the answer follows.
  public var schema: String?

  public init() {}
}

/// How a template's answers are written and read, by llama.cpp's parsers: thinking, content and calls of tools.
package final class AnswerFormat: @unchecked Sendable {
  /// What the sampler and the tokens' texts are told.
  package struct Rules: Decodable, Sendable {
    struct Triggers: Decodable, Sendable {
      let patterns, words: [String]
      let tokens: [Int32]
    }
    let grammar: String
    let isLazy: Bool
    let triggers: Triggers
    let preserved: [String]
    /// Texts that end an answer.
    package let stops: [String]
    let opening: String
    /// Whether an answer is nothing but its text.
    package let isPlain: Bool
  }

  package let rules: Rules
  private let answer: OpaquePointer
  private let lock = NSLock()

  init(_ chat: OpaquePointer, request: String) throws {
    var error: UnsafeMutablePointer<CChar>?
    guard let answer = ladder_answer_open(chat, request, &error) else {
      throw LadderError(
        .data, "the answer's rules cannot be kept: \(ChatTemplate.line(ChatTemplate.take(error) ?? ""))")
    }
    do {
      rules = try JSONDecoder().decode(Rules.self, from: Data(String(cString: ladder_answer_rules(answer)).utf8))
    } catch {
      ladder_answer_close(answer)
      throw LadderError(.engine, "the answer's rules cannot be read")
    }
    self.answer = answer
  }

  deinit { ladder_answer_close(answer) }

  /// What a bracket in brackets takes of llama.cpp's parser at most, several times what was measured.
  private static let bytesPerBracket = 1 << 14

  /// What a text says so far.
  /// - Parameters:
  ///   - text: all of it.
  ///   - choice: which of the answers.
  /// - Throws: `data` for a whole text that the parser cannot read.
  package func read(_ text: String, choice: Int, isPartial: Bool) throws -> AnswerReading {
    let brackets = text.utf8.count { $0 == UInt8(ascii: "[") || $0 == UInt8(ascii: "{") }
    // A thread that is not the first has half a megabyte on macOS.
    guard brackets > 16 else { return try parsed(text, choice, isPartial) }
    return try DeepStack.with(bytes: brackets * Self.bytesPerBracket) {
      Result { try self.parsed(text, choice, isPartial) }
    }.get()
  }

  private func parsed(_ text: String, _ choice: Int, _ isPartial: Bool) throws -> AnswerReading {
    try lock.withLock {
      var error: UnsafeMutablePointer<CChar>?
      var text = text
      let length = text.utf8.count
      let said = text.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) {
          ladder_answer_read(answer, choice, $0.baseAddress, length, isPartial, &error)
        }
      }
      guard let said else { throw LadderError(.data, ChatTemplate.line(ChatTemplate.take(error) ?? "")) }
      defer { ladder_chat_free_text(said) }
      return try JSONDecoder().decode(AnswerReading.self, from: Data(String(cString: said).utf8))
    }
  }
}

/// What an answer says so far, and what of it is new.
package struct AnswerReading: Decodable, Sendable, Equatable {
  package struct Call: Decodable, Sendable, Equatable {
    package let id, name, arguments: String
  }

  package struct Delta: Decodable, Sendable, Equatable {
    package let content, reasoning: String
    /// A part of a call, and its place among the calls.
    package let call: Call?
    package let index: Int?

    package init(content: String) {
      self.content = content
      reasoning = ""
      call = nil
      index = nil
    }
  }

  package let deltas: [Delta]
  package let content, reasoning: String
  package let calls: [Call]
}

extension ModelVocabulary {
  /// How answers of a conversation are written and read.
  /// - Parameter choices: how many answers are read.
  package func answerFormat(
    _ conversation: Conversation, _ rules: AnswerRules = AnswerRules(), choices: Int = 1
  ) throws -> AnswerFormat {
    try chatTemplate().answerFormat(conversation, rules, choices: choices)
  }

  /// What a format asks of the sampler.
  package func constrain(_ options: inout SamplingOptions, by format: AnswerFormat) {
    let rules = format.rules
    guard !rules.grammar.isEmpty else { return }
    var tokens = rules.triggers.tokens, patterns = rules.triggers.patterns
    for word in rules.triggers.words {
      let own = tokenizer.tokens(word, special: true)
      if own.count == 1 {
        tokens += own
      } else {
        patterns.append(NSRegularExpression.escapedPattern(for: word))
      }
    }
    options.grammar = rules.grammar
    options.grammarUse = .init(isLazy: rules.isLazy, patterns: patterns, tokens: tokens, opening: rules.opening)
  }

  /// Control tokens that are text of such answers.
  package func preserved(by format: AnswerFormat) -> Set<Int32> {
    Set(
      format.rules.preserved.compactMap { name in
        let own = tokenizer.tokens(name, special: true)
        return own.count == 1 ? own[0] : nil
      })
  }
}
