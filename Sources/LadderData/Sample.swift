import Foundation
import LadderCore

/// One line of a JSONL file.
public struct Sample: Sendable, Equatable {
  /// What a sample holds, by the format it was written in.
  public indirect enum Form: Sendable, Equatable {
    /// Loss on the completion.
    case completion(prompt: String, completion: String)
    /// Loss on the assistant's turns.
    case conversation([ChatMessage])
    /// Loss on the assistant's turns of what follows a conversation.
    case reply(to: [ChatMessage], with: [ChatMessage])
    /// Loss everywhere.
    case text(String)
    /// Two answers to one prompt, each a completion or a reply.
    case preference(chosen: Form, rejected: Form)
  }

  /// The texts to learn from.
  public var form: Form
  /// Completions to choose among; the sample's own is one of them.
  public var choices: [String]
  /// What the generated text's final number or text is compared with.
  public var answer: String?

  /// - Parameters:
  ///   - choices: the answers that `choice` judges between.
  ///   - answer: what `exact` compares a generated text with.
  public init(_ form: Form, choices: [String] = [], answer: String? = nil) {
    self.form = form
    self.choices = choices
    self.answer = answer
  }

  /// A prompt and the completion to learn.
  public init(prompt: String, completion: String, choices: [String] = [], answer: String? = nil) {
    self.init(.completion(prompt: prompt, completion: completion), choices: choices, answer: answer)
  }

  /// Reads a file of JSON Lines (blank lines are passed over), a JSON array, or CSV or TSV with a heading.
  /// - Throws: `missing`; `data` with file and line for the first record that is no sample.
  public static func load(_ path: String) throws(LadderError) -> [Sample] {
    try LadderError.unify { try read(path) }
  }

  private static func read(_ path: String) throws -> [Sample] {
    var samples: [Sample] = []
    try DataFile(path).forEach { record in
      do throws(LadderError) {
        samples.append(try Sample(json: record.json))
      } catch {
        throw LadderError(.data, "\(record.place): \(error.message)")
      }
    }
    if samples.isEmpty { throw LadderError(.data, "\(path) holds no samples; write one JSON object a line") }
    return samples
  }

  /// Reads one JSON object.
  public init(json: Data) throws(LadderError) {
    self = try LadderError.unify { try Self.parse(json) }
  }

  private static func parse(_ json: Data) throws -> Sample {
    func bad(_ message: String) -> LadderError { LadderError(.data, message) }
    let parsed: Any
    do {
      parsed = try JSONSerialization.jsonObject(with: json)
    } catch {
      throw bad("this line is not valid JSON; write one object a line")
    }
    guard let object = parsed as? [String: Any] else {
      throw bad("this line is not a JSON object; write {\"prompt\": …, \"completion\": …}")
    }
    func string(_ key: String) throws -> String? {
      guard let value = object[key], !(value is NSNull) else { return nil }
      guard let text = value as? String else { throw bad("\"\(key)\" is not a string") }
      return text
    }
    func turns(_ key: String) throws -> [ChatMessage] {
      guard let list = object[key] as? [[String: Any]] else { throw bad("\"\(key)\" is not a list of objects") }
      return try list.map { turn in
        guard let role = turn["role"] as? String, let content = turn["content"] as? String else {
          throw bad("a message lacks \"role\" or \"content\"")
        }
        return ChatMessage(role: role, content: content)
      }
    }
    func answer() throws -> String? { try (object["answer"] as? NSNumber)?.stringValue ?? string("answer") }
    if object["chosen"] != nil || object["rejected"] != nil {
      return Sample(try Self.preference(object, string, turns))
    } else if object["messages"] != nil {
      let turns = try turns("messages")
      guard turns.contains(where: { $0.role == "assistant" && !$0.content.isEmpty }) else {
        throw bad("no message of role \"assistant\" with a content to learn")
      }
      return Sample(.conversation(turns))
    } else if let prompt = try string("prompt") {
      guard let completion = try string("completion") else { throw bad("a \"prompt\" without a \"completion\"") }
      if completion.isEmpty { throw bad("the completion is empty: there is nothing to learn") }
      var choices: [String] = []
      if let value = object["choices"] {
        guard let list = value as? [String], list.count >= 2, !list.contains("") else {
          throw bad("\"choices\" is not a list of two or more strings")
        }
        guard list.contains(completion) else { throw bad("the completion is not among the \"choices\"") }
        choices = list
      }
      return Sample(.completion(prompt: prompt, completion: completion), choices: choices, answer: try answer())
    } else if let text = try string("text") {
      if text.isEmpty { throw bad("the text is empty: there is nothing to learn") }
      return Sample(.text(text))
    } else if let instruction = try string("instruction") {
      guard let output = try string("output") else { throw bad("an \"instruction\" without an \"output\"") }
      if output.isEmpty { throw bad("the output is empty: there is nothing to learn") }
      let input = try string("input") ?? ""
      let question = input.isEmpty ? instruction : "\(instruction)\n\n### Input:\n\(input)"
      return Sample(
        .completion(prompt: "### Instruction:\n\(question)\n\n### Response:\n", completion: output),
        answer: try answer())
    } else {
      throw bad("no \"prompt\", \"messages\", \"text\" or \"instruction\" in this line")
    }
  }
}

extension Sample {
  /// A pair in one of TRL's formats: texts or lists of messages, with a "prompt" or with what both begin with.
  private static func preference(
    _ object: [String: Any], _ string: (String) throws -> String?, _ turns: (String) throws -> [ChatMessage]
  ) throws -> Form {
    func bad(_ message: String) -> LadderError { LadderError(.data, message) }
    guard object["chosen"] != nil, object["rejected"] != nil else {
      throw bad("a pair lacks \"chosen\" or \"rejected\"")
    }
    if object["chosen"] is String {
      guard var chosen = try string("chosen"), var rejected = try string("rejected") else {
        throw bad("a pair lacks \"chosen\" or \"rejected\"")
      }
      var prompt = try string("prompt") ?? ""
      if object["prompt"] == nil {
        prompt = chosen.commonPrefix(with: rejected)
        // A pair parts between words.
        prompt = String(prompt[..<(prompt.lastIndex(where: \.isWhitespace) ?? prompt.startIndex)])
        (chosen, rejected) = (String(chosen.dropFirst(prompt.count)), String(rejected.dropFirst(prompt.count)))
      }
      guard !chosen.isEmpty, !rejected.isEmpty else {
        throw bad("an answer of the pair is empty: there is nothing to learn")
      }
      guard chosen != rejected else { throw bad("\"chosen\" and \"rejected\" are the same") }
      return .preference(
        chosen: .completion(prompt: prompt, completion: chosen),
        rejected: .completion(prompt: prompt, completion: rejected))
    }
    var chosen = try turns("chosen"), rejected = try turns("rejected"), prompt: [ChatMessage] = []
    if object["prompt"] != nil {
      prompt = try turns("prompt")
    } else {
      prompt = zip(chosen, rejected).prefix { $0 == $1 }.map(\.0)
      (chosen, rejected) = (Array(chosen.dropFirst(prompt.count)), Array(rejected.dropFirst(prompt.count)))
    }
    for answer in [chosen, rejected] where !answer.contains(where: { $0.role == "assistant" && !$0.content.isEmpty }) {
      throw bad("an answer of the pair has no message of role \"assistant\" with a content to learn")
    }
    guard chosen != rejected else { throw bad("\"chosen\" and \"rejected\" are the same") }
    return .preference(chosen: .reply(to: prompt, with: chosen), rejected: .reply(to: prompt, with: rejected))
  }
}
