import Foundation
import LadderCore
import LadderData

/// Looks texts up in a longer one, in which they mostly stand one behind another.
private final class FoundTexts {
  private let bytes: [UInt8]
  private var next = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func contains(_ text: some StringProtocol) -> Bool {
    let wanted = Array(text.utf8)
    guard let place = find(wanted, from: next) ?? (next > 0 ? find(wanted, from: 0) : nil) else { return false }
    next = place
    return true
  }

  private func find(_ wanted: [UInt8], from start: Int) -> Int? {
    guard let first = wanted.first else { return start }
    var place = start
    while let next = bytes[place...].firstIndex(of: first), next + wanted.count <= bytes.count {
      if bytes[next...].starts(with: wanted) { return next }
      place = next + 1
    }
    return nil
  }
}

/// A conversation as the template's engine takes it.
struct ChatRequest {
  let json: String
  private let opensAnswer: Bool

  /// - Parameters:
  ///   - rules: of the answer, where its format is asked for.
  ///   - marked: what is done to each text that somebody wrote.
  init(
    _ conversation: Conversation, options: [String: String], opensAnswer: Bool, rules: AnswerRules? = nil,
    choices: Int = 1, marked: (String) -> String
  ) throws {
    self.opensAnswer = opensAnswer
    func text(_ value: String) throws -> String {
      String(decoding: try JSONEncoder().encode(marked(value)), as: UTF8.self)
    }
    let messages = try conversation.messages.map { try $0.json(text) }
    var members = ["\"messages\": [\(messages.joined(separator: ", "))]", "\"open\": \(opensAnswer)"]
    if let tools = conversation.tools {
      members.append("\"tools\": \(marked(try Self.callable(tools, rules?.toolChoice)))")
    }
    if let rules {
      members.append("\"tool_choice\": \(try text(Self.choice(rules.toolChoice)))")
      var isNamed = false
      if case .function = rules.toolChoice { isNamed = true }
      members.append("\"parallel\": \(rules.callsInParallel && !isNamed), \"choices\": \(choices)")
      if let schema = rules.schema { members.append("\"schema\": \(schema)") }
    }
    let all = options.merging(conversation.templateOptions) { $1 }
    if !all.isEmpty {
      let pairs = try all.sorted { $0.key < $1.key }.map {
        "\(String(decoding: try JSONEncoder().encode($0.key), as: UTF8.self)): \($0.value)"
      }
      members.append("\"options\": {\(pairs.joined(separator: ", "))}")
    }
    json = "{\(members.joined(separator: ", "))}"
  }

  private static func choice(_ choice: AnswerRules.ToolChoice) -> String {
    switch choice {
    case .auto: "auto"
    case .none: "none"
    case .required, .function: "required"
    }
  }

  /// The tools of a JSON list that may be called.
  /// - Throws: `usage` where there is none of the name that is asked for.
  private static func callable(_ tools: String, _ choice: AnswerRules.ToolChoice?) throws -> String {
    guard case .function(let name) = choice else { return tools }
    let all = try JSONText(Data(tools.utf8)).elements
    guard let tool = all.first(where: { $0.object["function"]?.object["name"]?.string == name }) else {
      throw LadderError(.usage, "no tool is named \(name.shown)")
    }
    return "[\(tool.source)]"
  }

  /// Some runs of letters and digits, from the first on; of a turn that thinks those behind it.
  private static func words(of content: String) -> [Substring] {
    let said = content.range(of: "</think>", options: .backwards).map { content[$0.upperBound...] } ?? content[...]
    return Array(
      said.split { !$0.isASCII || !($0.isLetter || $0.isNumber) }.filter { $0.count > 3 }.prefix(16))
  }

  /// A template says nothing of what it does not know: what was written has to be in what the model reads.
  /// - Throws: `data` with the name of the key that is left out.
  func requireWhole(in rendered: [UInt8], _ conversation: Conversation) throws {
    let text = FoundTexts(rendered)
    func missing(_ key: String, _ what: String) -> LadderError {
      LadderError(
        .data,
        "the chat template leaves out \"\(key)\" (\(what)); remove it, or take a template that has it")
    }
    for message in conversation.messages where ["system", "developer", "user"].contains(message.role) {
      let content = message.content.trimmingCharacters(in: .whitespacesAndNewlines)
      if !content.isEmpty, !text.contains(content) { throw missing("content", "of role \(message.role.shown)") }
    }
    // Templates write what tools gave as they like: of the words each has to be there. So of what is said beside calls,
    // until there is an answer: what was thought on the way to it may be left out.
    let answer = conversation.messages.lastIndex { $0.role == "assistant" && $0.toolCalls.isEmpty } ?? -1
    for (place, message) in conversation.messages.enumerated()
    where message.role == "tool" || !message.toolCalls.isEmpty && place > answer {
      guard Self.words(of: message.content).allSatisfy(text.contains) else {
        throw missing("content", message.role == "tool" ? "of role tool" : "beside tool_calls")
      }
    }
    for call in conversation.messages.flatMap(\.toolCalls) where !text.contains(call.name) {
      throw missing("tool_calls", "the call of \(call.name.shown)")
    }
    if let tools = conversation.tools, let list = try? JSONSerialization.jsonObject(with: Data(tools.utf8)) as? [Any] {
      for case let tool as [String: Any] in list {
        guard let function = tool["function"] as? [String: Any], let name = function["name"] as? String else {
          continue
        }
        if !text.contains(name) { throw missing("tools", "the tool \(name.shown)") }
      }
    }
    // Thinking of earlier turns may be left out; that of the last is what the model is to write.
    let last = conversation.messages.last
    let reasoning = (last?.reasoning ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
    if !opensAnswer, !reasoning.isEmpty, !text.contains(reasoning) {
      throw missing("reasoning_content", "of the last turn")
    }
  }
}
