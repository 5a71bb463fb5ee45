import Foundation
import Ladder

/// A conversation with the model or with a run, or with both at once.
///
/// What is saved is a sample: the line that `ladder train` learns such a conversation from.
struct ChatSession {
  /// Who answers: a run's name, or nil for the model alone.
  var answers: String?
  /// The turns, of the one who answers.
  private(set) var messages: [ChatMessage] = []
  /// With a comparison those of the model alone, whose answers differ.
  private(set) var baseMessages: [ChatMessage] = []

  /// Puts a question, and hands out what each has to answer.
  mutating func ask(_ text: String) {
    messages.append(ChatMessage(role: "user", content: text))
    baseMessages.append(ChatMessage(role: "user", content: text))
  }

  /// Takes an answer. Of a comparison the model's own too.
  mutating func answer(_ said: ChatMessage, base: ChatMessage? = nil) {
    messages.append(said)
    baseMessages.append(base ?? said)
  }

  /// Takes the last question back, with its answer.
  /// - Returns: false where there is none.
  mutating func undo() -> Bool {
    guard let last = messages.lastIndex(where: { $0.role == "user" }) else { return false }
    messages.removeSubrange(last...)
    baseMessages.removeSubrange(last...)
    return true
  }

  /// Forgets all turns but what the system is told.
  mutating func clear() {
    messages.removeAll { $0.role != "system" }
    baseMessages = messages
  }

  /// What the model is told before the first turn; an empty text takes it back.
  mutating func tellSystem(_ text: String) {
    for list in [\ChatSession.messages, \ChatSession.baseMessages] {
      self[keyPath: list].removeAll { $0.role == "system" }
      if !text.isEmpty { self[keyPath: list].insert(ChatMessage(role: "system", content: text), at: 0) }
    }
  }

  // MARK: - Files

  /// As `ladder train` takes a sample.
  private struct File: Codable {
    struct Message: Codable {
      var role: String
      var content: String
      var reasoning: String?

      enum CodingKeys: String, CodingKey {
        case role, content
        case reasoning = "reasoning_content"
      }

      init(_ message: ChatMessage) {
        (role, content, reasoning) = (message.role, message.content, message.reasoning)
      }

      var message: ChatMessage { ChatMessage(role: role, content: content, reasoning: reasoning) }
    }
    var messages: [Message]
  }

  /// - Throws: `inputOutput`.
  func save(_ path: String) throws {
    let file = File(messages: messages.map { .init($0) })
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    try DurableFile.write(path, [try encoder.encode(file) + Data("\n".utf8)])
  }

  /// - Throws: `missing`; `data` for a file that holds no conversation.
  mutating func load(_ path: String) throws {
    guard FileManager.default.fileExists(atPath: path) else { throw LadderError(.missing, "no file at \(path)") }
    let line = try DurableFile.read(path).split(separator: UInt8(ascii: "\n"), maxSplits: 1).first ?? Data()
    guard let file = try? JSONDecoder().decode(File.self, from: Data(line)) else {
      throw LadderError(.data, "\(path) holds no conversation: its first line is not {\"messages\": […]}")
    }
    messages = file.messages.map(\.message)
    baseMessages = messages
  }
}
