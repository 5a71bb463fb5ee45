import Foundation
import LadderCore

/// Reads conversations out of a sample's object: OpenAI's messages, and ShareGPT's turns.
struct ConversationRecord {
  let object: [String: JSONText]

  /// The messages under a key, with the tools and the template's options beside it.
  func conversation(_ key: String) throws -> Conversation {
    var messages = try Self.messages(try list(key), key)
    if ["conversations", "messages"].contains(key), let value = object["system"] {
      let system = try Self.text(value, "system")
      if !system.isEmpty, messages.first?.role == "system" {
        throw LadderError(.data, "\"system\" stands beside a first message of that role; write one of them")
      }
      if !system.isEmpty { messages.insert(ChatMessage(role: "system", content: system), at: 0) }
    }
    return Conversation(messages, tools: try tools(), templateOptions: try options())
  }

  private func list(_ key: String) throws -> [JSONText] {
    guard let value = object[key], value.isList, value.elements.allSatisfy(\.isObject) else {
      throw LadderError(.data, "\"\(key)\" is not a list of objects")
    }
    return value.elements
  }

  /// A list of tools, as it stands or, as tables hold it, as text.
  private func tools() throws -> String? {
    guard let value = object["tools"] else { return nil }
    let text = value.string ?? value.source
    if text.isEmpty { return nil }
    let list = try JSONText(.init(text.utf8))
    if list.isNull || list.isList && list.elements.isEmpty { return nil }
    guard list.isList, list.elements.allSatisfy(\.isObject) else {
      throw LadderError(.data, "\"tools\" is not a list of objects {\"type\": \"function\", \"function\": {…}}")
    }
    let functions = list.elements.map { element in
      // A bare function is taken for what it is.
      element.members.contains { $0.name == "function" }
        ? element.source : "{\"type\": \"function\", \"function\": \(element.source)}"
    }
    return "[" + functions.joined(separator: ", ") + "]"
  }

  private func options() throws -> [String: String] {
    guard let value = object["chat_template_kwargs"] else { return [:] }
    guard let options = Conversation.templateOptions(json: value.string ?? value.source) else {
      throw LadderError(.data, "\"chat_template_kwargs\" is not an object")
    }
    return options
  }

  // MARK: - Messages

  static func messages(_ list: [JSONText], _ key: String) throws -> [ChatMessage] {
    try list.enumerated().map { index, element in
      do throws(LadderError) {
        return try message(element)
      } catch {
        throw LadderError(.data, "\(key)[\(index)]: \(error.message)")
      }
    }
  }

  private static func message(_ element: JSONText) throws(LadderError) -> ChatMessage {
    func bad(_ message: String) -> LadderError { LadderError(.data, message) }
    let members = element.object.filter { !$0.value.isNull }
    func string(_ key: String) throws(LadderError) -> String? {
      guard let value = members[key] else { return nil }
      guard let text = value.string else { throw bad("\"\(key)\" is not a string") }
      return text
    }
    if members["from"] != nil { return try shareGPT(members, string) }
    let known: Set = [
      "role", "content", "reasoning_content", "reasoning", "thinking", "tool_calls", "tool_call_id", "name", "weight",
    ]
    if let other = element.members.first(where: { !known.contains($0.name) && !$0.value.holdsNothing }) {
      throw bad("the key \"\(other.name.shown)\" is not one that a chat template is given; remove it")
    }
    guard let role = try string("role") else { throw bad("a message lacks \"role\"") }
    let calls = try calls(members["tool_calls"])
    let reasoning = try string(
      ["reasoning_content", "reasoning", "thinking"].first { members[$0] != nil } ?? "reasoning_content")
    if members["content"] == nil, calls.isEmpty, reasoning == nil { throw bad("a message lacks \"content\"") }
    var content = ""
    if let value = members["content"] { content = try text(value, "content") }
    if role != "assistant" {
      for key in ["tool_calls", "reasoning_content", "reasoning", "thinking", "weight"]
      where members[key].map({ !$0.holdsNothing && $0.string != "" }) ?? false {
        throw bad("\"\(key)\" belongs to messages of role \"assistant\" alone")
      }
    }
    return ChatMessage(
      role: role, content: content, reasoning: reasoning, toolCalls: calls, toolCallID: try string("tool_call_id"),
      name: try string("name"), isLearned: try isLearned(members["weight"]))
  }

  /// The text of a message, or of its parts one behind the other.
  private static func text(_ content: JSONText, _ key: String) throws(LadderError) -> String {
    if let text = content.string { return text }
    guard content.isList else { throw LadderError(.data, "\"\(key)\" is neither a string nor a list of text parts") }
    var result = ""
    for part in content.elements {
      if let text = part.string {
        result += text
        continue
      }
      let members = part.object
      guard let kind = members["type"]?.string, kind == "text", let text = members["text"]?.string else {
        let kind = members["type"]?.string ?? part.source
        throw LadderError(.data, "\"\(key)\" has a part of type \"\(kind.shown)\"; only \"text\" can be learned from")
      }
      result += text
    }
    return result
  }

  private static func calls(_ value: JSONText?) throws(LadderError) -> [ToolCall] {
    guard let value else { return [] }
    guard value.isList else { throw LadderError(.data, "\"tool_calls\" is not a list") }
    var result: [ToolCall] = []
    for element in value.elements {
      let members = element.object, function = members["function"]?.object ?? members
      guard let name = function["name"]?.string else {
        throw LadderError(
          .data, "a tool call lacks its function's name; write {\"function\": {\"name\": …, \"arguments\": …}}")
      }
      let arguments = function["arguments"].map { $0.string ?? $0.source } ?? "{}"
      // llama.cpp's templates read them, a call of a function for each level.
      guard JSONText(trimming: Array(arguments.utf8)[...]).extent.depth <= 64 else {
        throw LadderError(.data, "the arguments of a call of \(name.shown) have more than 64 levels")
      }
      result.append(ToolCall(id: members["id"]?.string, name: name, arguments: arguments))
    }
    return result
  }

  private static func isLearned(_ weight: JSONText?) throws(LadderError) -> Bool {
    guard let weight else { return true }
    guard let value = Double(weight.source), value == 0 || value == 1 else {
      throw LadderError(.data, "\"weight\" is neither 0 nor 1")
    }
    return value == 1
  }

  /// {"from": …, "value": …}.
  private static func shareGPT(
    _ members: [String: JSONText], _ string: (String) throws(LadderError) -> String?
  ) throws(LadderError) -> ChatMessage {
    if let other = members.keys.sorted().first(where: { !["from", "value", "weight"].contains($0) }) {
      throw LadderError(.data, "the key \"\(other.shown)\" is not one that a chat template is given; remove it")
    }
    guard let speaker = try string("from"), let value = try string("value") else {
      throw LadderError(.data, "a turn lacks \"from\" or \"value\"")
    }
    let learned = try isLearned(members["weight"])
    switch speaker {
    case "human", "user": return ChatMessage(role: "user", content: value)
    case "gpt", "assistant", "model", "chatgpt", "bing", "bard":
      return ChatMessage(role: "assistant", content: value, isLearned: learned)
    case "system": return ChatMessage(role: "system", content: value)
    case "observation", "tool", "function", "function_response":
      return ChatMessage(role: "tool", content: value)
    case "function_call":
      let call = try JSONText(.init(value.utf8))
      let calls = call.isList ? call.elements.map(\.source) : [call.source]
      let list = try JSONText(.init("[\(calls.joined(separator: ", "))]".utf8))
      return ChatMessage(role: "assistant", content: "", toolCalls: try Self.calls(list), isLearned: learned)
    default: throw LadderError(.data, "\"from\" is \"\(speaker.shown)\"; write human, gpt, system or tool")
    }
  }
}

extension Conversation {
  /// The members of a JSON object, each as it was written; nil for what is none.
  package static func templateOptions(json: String) -> [String: String]? {
    guard let value = try? JSONText(.init(json.utf8)), value.isObject else { return nil }
    return value.object.mapValues(\.source)
  }
}

extension Conversation {
  /// A conversation as OpenAI's interface has it: `messages`, and beside them `tools` and `chat_template_kwargs`.
  /// - Throws: `data` for what no template is given.
  package init(openAI members: [String: JSONText]) throws(LadderError) {
    self = try LadderError.unify { try ConversationRecord(object: members).conversation("messages") }
  }

  /// The same of a whole object.
  package init(messagesOf json: Data) throws(LadderError) { try self.init(openAI: try JSONText(json).object) }
}
