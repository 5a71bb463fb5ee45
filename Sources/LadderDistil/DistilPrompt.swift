import Foundation
import LadderCore
import LadderData

/// What a teacher is asked: a text to continue, or messages to answer.
public struct DistilPrompt: Sendable {
  enum Form: Sendable {
    /// A text as it stands.
    case text(String)
    /// Messages as JSON, each as it was written, and the same for a model's template.
    case messages([String], Conversation)
  }

  let form: Form
  /// What the right answer ends in, where that is known.
  public let answer: String?
  /// `file:line`.
  let place: String
  /// Other keys that a line of the result keeps, as JSON.
  private let kept: [(name: String, json: String)]

  /// The prompts of a file: objects with `prompt` or `messages`, whose last turns are not the assistant's, or are left
  /// out; `answer`, `tools` and `chat_template_kwargs` where there are any.
  /// - Parameter chats: take a `prompt` as the user's turn.
  /// - Throws: `missing`; `data` with the file and line of what is no prompt.
  public static func load(_ path: String, chats: Bool = false) throws(LadderError) -> [DistilPrompt] {
    try LadderError.unify {
      var prompts: [DistilPrompt] = []
      try DataFile(path).forEach { record in
        do { prompts.append(try DistilPrompt(record.json, place: record.place, chats: chats)) } catch {
          let error = LadderError(any: error)
          throw LadderError(error.kind, "\(record.place): \(error.message)")
        }
      }
      if prompts.isEmpty { throw LadderError(.data, "\(path) holds no prompts") }
      return prompts
    }
  }

  private init(_ json: Data, place: String, chats: Bool) throws {
    self.place = place
    let text = try JSONText(json)
    guard text.isObject else { throw LadderError(.data, "this is not a JSON object; write {\"prompt\": …}") }
    let object = text.object.filter { !$0.value.isNull }
    answer = object["answer"].map { $0.string ?? $0.source }
    var names = ["tools", "chat_template_kwargs", "answer"]
    if let messages = object["messages"] {
      guard messages.isList else { throw LadderError(.data, "\"messages\" is not a list") }
      var conversation = try Conversation(messagesOf: json)
      var turns = messages.elements.map { String(decoding: $0.compact, as: UTF8.self) }
      while conversation.messages.last?.role == "assistant" {
        conversation.messages.removeLast()
        turns.removeLast()
      }
      guard turns.count == conversation.messages.count, !turns.isEmpty else {
        throw LadderError(.data, "\"messages\" holds no turn to answer")
      }
      form = .messages(turns, conversation)
    } else if let prompt = object["prompt"]?.string {
      guard !prompt.isEmpty else { throw LadderError(.data, "\"prompt\" is empty") }
      if chats {
        let turn = "{\"role\":\"user\",\"content\":\(try Self.json(prompt))}"
        form = .messages([turn], Conversation([ChatMessage(role: "user", content: prompt)]))
      } else {
        form = .text(prompt)
        names = ["answer"]
      }
    } else {
      throw LadderError(.data, "there is neither \"prompt\", a text, nor \"messages\"")
    }
    kept = try names.compactMap { name in
      try object[name].flatMap { try Self.kept(name, $0) }.map {
        (name: name, json: String(decoding: $0, as: UTF8.self))
      }
    }
  }

  /// A key's value in one line; nil for none.
  private static func kept(_ name: String, _ value: JSONText) throws -> [UInt8]? {
    if name == "answer" { return value.compact }
    // Tables hold it as a text.
    let text = value.string ?? value.source
    if text.isEmpty { return nil }
    guard let json = try? JSONText(Data(text.utf8)), name == "tools" ? json.isList : json.isObject else {
      throw LadderError(.data, "\"\(name)\" is not \(name == "tools" ? "a list" : "an object")")
    }
    return json.compact
  }

  /// Whether it is answered by a turn, and not gone on with.
  var isChat: Bool { if case .messages = form { true } else { false } }

  /// The tools that may be called, and what the chat template is given, as JSON.
  var tools: String? { kept.first { $0.name == "tools" }?.json }
  var templateOptions: String? { kept.first { $0.name == "chat_template_kwargs" }?.json }

  /// The prompt with an answer, as a line that training learns from.
  func line(_ answer: TeacherAnswer) throws -> String {
    let own: String
    switch form {
    case .text(let prompt): own = "\"prompt\":\(try Self.json(prompt)),\"completion\":\(try Self.json(answer.text))"
    case .messages(let turns, _):
      let reply = ChatMessage(
        role: "assistant", content: answer.text, reasoning: answer.reasoning, toolCalls: answer.calls ?? [])
      own = "\"messages\":[\((turns + [try reply.json(Self.json)]).joined(separator: ","))]"
    }
    return "{\(own)\(kept.map { ",\"\($0.name)\":\($0.json)" }.joined())}"
  }

  static func json(_ text: String) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .withoutEscapingSlashes
    return String(decoding: try encoder.encode(text), as: UTF8.self)
  }
}
