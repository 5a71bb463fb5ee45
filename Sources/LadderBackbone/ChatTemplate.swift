import CChat
import Foundation
import LadderCore
import LadderData

/// A template for conversations, the model's own or another, rendered as llama.cpp's server renders it: its Jinja
/// engine, its rules for tools and thinking.
public final class ChatTemplate: @unchecked Sendable {
  private let chat: OpaquePointer
  /// Keeps the model alive.
  private let owner: AnyObject
  /// Of control tokens.
  private let names: NameIndex
  /// What the template is given by name beside what a conversation gives, each a JSON value.
  let options: [String: String]

  /// - Parameters:
  ///   - source: Jinja; nil takes the model's own.
  ///   - now: what a template that writes the date takes for now; nil is the clock.
  ///   - path: the model's file, for errors.
  init(
    model: OpaquePointer, owner: AnyObject, source: String?, options: [String: String], now: Date?,
    names: NameIndex, path: String
  ) throws {
    var error: UnsafeMutablePointer<CChar>?
    let seconds = now.map { Int64($0.timeIntervalSince1970) } ?? -1
    guard let chat = ladder_chat_open(model, source, seconds, &error) else {
      let reason = Self.take(error) ?? ""
      throw LadderError(
        .data,
        reason.isEmpty
          ? "\(path) has no chat template; pass a `chatTemplate`, or write prompts and completions instead of messages"
          : "the chat template cannot be read: \(Self.line(reason))")
    }
    self.chat = chat
    self.owner = owner
    self.options = options
    self.names = names
  }

  deinit { ladder_chat_close(chat) }

  /// The template's Jinja source.
  public var source: String { ladder_chat_source(chat, false).map { String(cString: $0) } ?? "" }

  /// That of conversations with tools, where the model has one of its own for them.
  public var toolSource: String? { ladder_chat_source(chat, true).map { String(cString: $0) } }

  /// The conversation as the model expects it; `opensAnswer` ends it where the assistant's turn begins.
  /// - Throws: `data` where the template refuses the conversation, or leaves out what it holds.
  public func render(_ conversation: Conversation, opensAnswer: Bool) throws(LadderError) -> String {
    let rendered = try LadderError.unify { try self.rendered(conversation, opensAnswer: opensAnswer) }
    return String(decoding: rendered.bytes, as: UTF8.self)
  }

  func rendered(_ conversation: Conversation, opensAnswer: Bool) throws -> RenderedText {
    try requireRoles(of: conversation)
    let mark = Self.mark(for: conversation)
    let request = try ChatRequest(conversation, options: options, opensAnswer: opensAnswer) { self.marked($0, mark) }
    var length = 0
    var error: UnsafeMutablePointer<CChar>?
    guard let text = ladder_chat_render(chat, request.json, &length, &error) else {
      throw LadderError(.data, "the chat template refuses the conversation: \(Self.line(Self.take(error) ?? ""))")
    }
    defer { ladder_chat_free_text(text) }
    let bytes = UnsafeRawBufferPointer(start: text, count: length)
    let rendered = Self.unmarked(bytes, mark)
    try request.requireWhole(in: rendered.bytes, conversation)
    return rendered
  }

  func answerFormat(_ conversation: Conversation, _ rules: AnswerRules, choices: Int) throws -> AnswerFormat {
    let request = try ChatRequest(conversation, options: options, opensAnswer: true, rules: rules, choices: choices) {
      $0
    }
    return try AnswerFormat(chat, request: request.json)
  }

  /// A template takes any role's name, and a model has learned a few.
  /// - Throws: `data` for a role that is neither one of the usual nor in the template's source.
  private func requireRoles(of conversation: Conversation) throws {
    let usual: Set = ["system", "developer", "user", "assistant", "tool"]
    for role in Set(conversation.messages.map(\.role)).subtracting(usual).sorted() {
      let isNamed = [source, toolSource].contains { source in
        source.map { $0.contains("'\(role)'") || $0.contains("\"\(role)\"") } ?? false
      }
      if !isNamed {
        throw LadderError(
          .data,
          "the chat template knows no role \"\(role.shown)\"; write system, user, assistant or tool")
      }
    }
  }

  // MARK: - Names of control tokens in what somebody wrote

  /// A character that the conversation does not hold.
  private static func mark(for conversation: Conversation) -> Unicode.Scalar {
    let texts =
      conversation.messages.flatMap { message in
        [message.content, message.reasoning ?? "", message.name ?? ""] + message.toolCalls.map(\.arguments)
      } + [conversation.tools ?? ""]
    let range = UInt32(0xF8FF) - 0x1000...0xF8FF
    let used = Set(texts.flatMap { $0.unicodeScalars.lazy.map(\.value).filter(range.contains) })
    if let code = range.first(where: { !used.contains($0) }), let scalar = Unicode.Scalar(code) { return scalar }
    return "\u{F8FF}"
  }

  /// The text with the mark behind the first character of each name.
  private func marked(_ text: String, _ mark: Unicode.Scalar) -> String {
    let bytes = Array(text.utf8)
    var result: [UInt8] = [], index = 0
    while index < bytes.count {
      guard let name = names.longest(in: bytes, at: index) else {
        result.append(bytes[index])
        index += 1
        continue
      }
      let first = index + name.firstCharacter
      result += bytes[index..<first]
      result += String(Character(mark)).utf8
      result += bytes[first..<(index + name.length)]
      index += name.length
    }
    return result.count == bytes.count ? text : String(decoding: result, as: UTF8.self)
  }

  private static func unmarked(_ bytes: UnsafeRawBufferPointer, _ mark: Unicode.Scalar) -> RenderedText {
    let pattern = Array(String(Character(mark)).utf8)
    var result: [UInt8] = [], literals: Set<Int> = [], index = 0
    result.reserveCapacity(bytes.count)
    while index < bytes.count {
      if bytes[index] == pattern[0], bytes[index...].starts(with: pattern) {
        literals.insert(result.count)
        index += pattern.count
      } else {
        result.append(bytes[index])
        index += 1
      }
    }
    return RenderedText(result, literals: literals)
  }

  // MARK: - Errors

  static func take(_ error: UnsafeMutablePointer<CChar>?) -> String? {
    defer { ladder_chat_free_text(error) }
    return error.map { String(cString: $0) }
  }

  /// What a template's error says, without the source around the place.
  static func line(_ reason: String) -> String {
    let lines = reason.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
    let said = lines.last { $0.lowercased().hasPrefix("error:") } ?? lines.first ?? "no reason is given"
    return said.count > 300 ? String(said.prefix(300)) + "…" : said
  }
}
