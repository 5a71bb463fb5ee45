import Foundation
import LadderCore

/// Reads a sample out of one object, by the keys it has. A null is an absent key.
struct SampleRecord {
  private let object: [String: JSONText]

  init(_ json: Data) throws {
    let value = try JSONText(json)
    guard value.isObject else {
      throw Self.bad("this line is not a JSON object; write {\"prompt\": …, \"completion\": …}")
    }
    object = value.object.filter { !$0.value.isNull }
  }

  func sample() throws -> Sample {
    var sample = try form()
    sample.unread = object.keys.filter { !Self.keys(of: sample.form).contains($0) }.sorted()
    return sample
  }

  /// The keys that a sample of this form is read from.
  private static func keys(of form: Sample.Form) -> Set<String> {
    switch form {
    case .completion:
      ["prompt", "completion", "choices", "answer", "instruction", "input", "output"]
    case .conversation: ["messages", "conversations", "system", "tools", "chat_template_kwargs", "answer"]
    case .reply: ["prompt", "completion", "tools", "chat_template_kwargs", "answer"]
    case .text: ["text"]
    case .preference: ["chosen", "rejected", "prompt", "tools", "chat_template_kwargs"]
    }
  }

  private func form() throws -> Sample {
    if object["chosen"] != nil || object["rejected"] != nil { return Sample(try preference()) }
    for key in ["messages", "conversations"] where object[key] != nil { return try conversation(key) }
    if object["prompt"] != nil { return try completion() }
    if let text = try string("text") {
      if text.isEmpty { throw Self.bad("the text is empty: there is nothing to learn") }
      return Sample(.text(text))
    }
    if let instruction = try string("instruction") { return try self.instruction(instruction) }
    throw Self.bad("no \"prompt\", \"messages\", \"text\" or \"instruction\" in this line")
  }

  private static func bad(_ message: String) -> LadderError { LadderError(.data, message) }

  private func string(_ key: String) throws -> String? {
    guard let value = object[key] else { return nil }
    guard let text = value.string else { throw Self.bad("\"\(key)\" is not a string") }
    return text
  }

  private func answer() throws -> String? {
    guard let value = object["answer"] else { return nil }
    guard let text = value.string ?? (value.isNumber ? value.source : nil) else {
      throw Self.bad("\"answer\" is neither a string nor a number")
    }
    return text
  }

  /// Completions to choose among; none where there are none.
  private func choices(_ completion: String) throws -> [String] {
    guard let value = object["choices"] else { return [] }
    let list = value.elements.compactMap(\.string)
    guard value.isList, list.count == value.elements.count, list.count >= 2, !list.contains("") else {
      throw Self.bad("\"choices\" is not a list of two or more strings")
    }
    guard list.contains(completion) else { throw Self.bad("the completion is not among the \"choices\"") }
    return list
  }

  // MARK: - Forms

  private func conversation(_ key: String) throws -> Sample {
    let conversation = try ConversationRecord(object: object).conversation(key)
    guard conversation.messages.contains(where: { $0.role == "assistant" && $0.isLearned && !$0.isEmpty }) else {
      throw Self.bad("no message of role \"assistant\" with a content to learn")
    }
    return Sample(.conversation(conversation), answer: try answer())
  }

  private func completion() throws -> Sample {
    guard let completion = object["completion"] else { throw Self.bad("a \"prompt\" without a \"completion\"") }
    if object["prompt"]?.isList == true {
      let record = ConversationRecord(object: object), prompt = try record.conversation("prompt")
      let reply =
        try completion.string.map { [ChatMessage(role: "assistant", content: $0)] }
        ?? record.conversation("completion").messages
      guard reply.contains(where: { $0.role == "assistant" && $0.isLearned && !$0.isEmpty }) else {
        throw Self.bad("the completion has no message of role \"assistant\" with a content to learn")
      }
      return Sample(.reply(to: prompt, with: reply), answer: try answer())
    }
    guard let prompt = try string("prompt"), let text = try string("completion") else {
      throw Self.bad("a \"prompt\" without a \"completion\"")
    }
    if text.isEmpty { throw Self.bad("the completion is empty: there is nothing to learn") }
    return Sample(.completion(prompt: prompt, completion: text), choices: try choices(text), answer: try answer())
  }

  private func instruction(_ instruction: String) throws -> Sample {
    guard let output = try string("output") else { throw Self.bad("an \"instruction\" without an \"output\"") }
    if output.isEmpty { throw Self.bad("the output is empty: there is nothing to learn") }
    let input = try string("input") ?? ""
    let question = input.isEmpty ? instruction : "\(instruction)\n\n### Input:\n\(input)"
    return Sample(
      .completion(prompt: "### Instruction:\n\(question)\n\n### Response:\n", completion: output),
      choices: try choices(output), answer: try answer())
  }

  /// A pair in one of TRL's formats: texts or lists of messages, with a "prompt" or with what both begin with.
  private func preference() throws -> Sample.Form {
    guard let first = object["chosen"], object["rejected"] != nil else {
      throw Self.bad("a pair lacks \"chosen\" or \"rejected\"")
    }
    return first.isString ? try texts() : try replies()
  }

  private func texts() throws -> Sample.Form {
    guard var chosen = try string("chosen"), var rejected = try string("rejected") else {
      throw Self.bad("a pair lacks \"chosen\" or \"rejected\"")
    }
    if object["prompt"]?.isList == true {
      let prompt = try ConversationRecord(object: object).conversation("prompt")
      func reply(_ text: String) -> Sample.Form {
        .reply(to: prompt, with: [ChatMessage(role: "assistant", content: text)])
      }
      try check([chosen, rejected])
      return .preference(chosen: reply(chosen), rejected: reply(rejected))
    }
    var prompt = try string("prompt") ?? ""
    if object["prompt"] == nil {
      prompt = chosen.commonPrefix(with: rejected)
      // A pair parts between words.
      prompt = String(prompt[..<(prompt.lastIndex(where: \.isWhitespace) ?? prompt.startIndex)])
      (chosen, rejected) = (String(chosen.dropFirst(prompt.count)), String(rejected.dropFirst(prompt.count)))
    }
    try check([chosen, rejected])
    return .preference(
      chosen: .completion(prompt: prompt, completion: chosen),
      rejected: .completion(prompt: prompt, completion: rejected))
  }

  private func check(_ answers: [String]) throws {
    if answers.contains("") { throw Self.bad("an answer of the pair is empty: there is nothing to learn") }
    if answers[0] == answers[1] { throw Self.bad("\"chosen\" and \"rejected\" are the same") }
  }

  private func replies() throws -> Sample.Form {
    let record = ConversationRecord(object: object)
    var chosen = try record.conversation("chosen"), rejected = try record.conversation("rejected").messages
    let common = zip(chosen.messages, rejected).prefix { $0 == $1 }.map(\.0)
    var prompt: [ChatMessage] = []
    // A text beside answers that hold their question is that question once more.
    if let text = try object["prompt"]?.isString == true ? string("prompt") : nil,
      !common.contains(where: { $0.role == "user" })
    {
      prompt = [ChatMessage(role: "user", content: text)]
    } else if object["prompt"]?.isString == false {
      prompt = try record.conversation("prompt").messages
      // Both may hold it too.
      if !prompt.isEmpty, common.starts(with: prompt) {
        chosen.messages.removeFirst(prompt.count)
        rejected.removeFirst(prompt.count)
      }
    } else {
      prompt = common
      chosen.messages.removeFirst(prompt.count)
      rejected.removeFirst(prompt.count)
    }
    for answer in [chosen.messages, rejected]
    where !answer.contains(where: { $0.role == "assistant" && $0.isLearned && !$0.isEmpty }) {
      throw Self.bad("an answer of the pair has no message of role \"assistant\" with a content to learn")
    }
    guard chosen.messages != rejected else { throw Self.bad("\"chosen\" and \"rejected\" are the same") }
    return .preference(
      chosen: .reply(to: chosen.with(prompt), with: chosen.messages),
      rejected: .reply(to: chosen.with(prompt), with: rejected))
  }
}
