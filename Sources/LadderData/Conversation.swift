import Foundation

/// One message of a conversation.
public struct ChatMessage: Sendable, Equatable {
  /// `system`, `developer`, `user`, `assistant` or `tool`.
  public var role: String
  /// The turn's text.
  public var content: String
  /// What the assistant thought before it answered.
  public var reasoning: String?
  /// The tools that the assistant calls.
  public var toolCalls: [ToolCall]
  /// Of a tool's message: the call that it answers, and the tool's name.
  public var toolCallID: String?
  /// A tool's name, or that of who speaks.
  public var name: String?
  /// Whether an assistant's turn is learned.
  public var isLearned: Bool

  /// One turn.
  public init(
    role: String, content: String, reasoning: String? = nil, toolCalls: [ToolCall] = [], toolCallID: String? = nil,
    name: String? = nil, isLearned: Bool = true
  ) {
    self.role = role
    self.content = content
    self.reasoning = reasoning
    self.toolCalls = toolCalls
    self.toolCallID = toolCallID
    self.name = name
    self.isLearned = isLearned
  }

  /// As OpenAI's interface and chat templates have it; `isLearned` is no part of it.
  /// - Parameter text: a string as JSON.
  package func json(_ text: (String) throws -> String) rethrows -> String {
    var members = ["\"role\":\(try text(role))", "\"content\":\(try text(content))"]
    if let reasoning { members.append("\"reasoning_content\":\(try text(reasoning))") }
    if !toolCalls.isEmpty {
      let calls = try toolCalls.map { call in
        let id = try call.id.map { "\"id\":\(try text($0))," } ?? ""
        return "{\(id)\"type\":\"function\",\"function\":{\"name\":\(try text(call.name)),"
          + "\"arguments\":\(try text(call.arguments))}}"
      }
      members.append("\"tool_calls\":[\(calls.joined(separator: ","))]")
    }
    if let toolCallID { members.append("\"tool_call_id\":\(try text(toolCallID))") }
    if let name { members.append("\"name\":\(try text(name))") }
    return "{\(members.joined(separator: ","))}"
  }

  /// Whether there is nothing in the turn.
  var isEmpty: Bool { content.isEmpty && toolCalls.isEmpty && (reasoning ?? "").isEmpty }
}

/// One call of a tool.
public struct ToolCall: Sendable, Codable, Equatable {
  /// By which the tool's message refers to the call.
  public var id: String?
  /// The function's name.
  public var name: String
  /// The arguments as JSON.
  public var arguments: String

  /// One call.
  public init(id: String? = nil, name: String, arguments: String) {
    self.id = id
    self.name = name
    self.arguments = arguments
  }
}

/// Messages, and what a chat template is told besides.
public struct Conversation: Sendable, Equatable {
  /// The turns in their order.
  public var messages: [ChatMessage]
  /// The tools that may be called, a JSON list as in OpenAI's interface; nil for none.
  public var tools: String?
  /// What the template is given by name, each a JSON value: `enable_thinking`, for one.
  public var templateOptions: [String: String]

  /// - Parameters:
  ///   - tools: a JSON list.
  ///   - templateOptions: JSON values by name (`chat_template_kwargs`).
  public init(_ messages: [ChatMessage], tools: String? = nil, templateOptions: [String: String] = [:]) {
    self.messages = messages
    self.tools = tools
    self.templateOptions = templateOptions
  }

  /// The same with other messages.
  func with(_ messages: [ChatMessage]) -> Conversation {
    Conversation(messages, tools: tools, templateOptions: templateOptions)
  }
}

/// A conversation as the model reads it.
package struct RenderedText: Sendable, Equatable {
  /// UTF-8.
  package var bytes: [UInt8]
  /// Offsets behind the first character of each name of a control token that somebody wrote in a message: letters, and
  /// not that token.
  package var literals: Set<Int>

  package init(_ bytes: [UInt8], literals: Set<Int> = []) {
    self.bytes = bytes
    self.literals = literals
  }
}

/// Tokens with their places in the text they were made from.
package struct PlacedTokens: Sendable {
  package var tokens: [Int32]
  /// For each token the offset behind its last byte, ascending.
  package var ends: [Int]

  package init(tokens: [Int32], ends: [Int]) {
    self.tokens = tokens
    self.ends = ends
  }
}
