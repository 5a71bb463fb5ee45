import Foundation
import LadderBackbone
import LadderCore
import LadderData

/// A request of /v1/chat/completions.
struct ChatFields {
  var common: SamplingFields
  let conversation: Conversation
  let rules: AnswerRules
  /// Of what is rendered, as the request has it.
  let bytes: Int

  init(_ fields: Fields, _ limits: ServerSettings.Limits, tokens: Int) throws {
    common = try SamplingFields(fields, limits, tokens: tokens)
    if try fields.flag("logprobs") ?? false {
      common.options.logProbabilities = try fields.whole("top_logprobs", 0...20) ?? 0
    } else if fields["top_logprobs"] != nil {
      throw APIError.bad("top_logprobs", "top_logprobs is told with logprobs alone: pass \"logprobs\": true")
    }
    try common.readComparison(fields)
    guard let messages = fields["messages"], messages.isList, !messages.elements.isEmpty else {
      throw APIError.bad("messages", "messages must be a list of at least one message")
    }
    bytes = messages.bytes.count + (fields["chat_template_kwargs"]?.bytes.count ?? 0)
    if let tools = fields["tools"] { try GrammarLimits.check(tools: tools) }
    let effort = try fields.text("reasoning_effort")
    do {
      var asked = try Conversation(openAI: fields.members)
      if let effort, asked.templateOptions["reasoning_effort"] == nil {
        asked.templateOptions["reasoning_effort"] = String(decoding: try JSONEncoder().encode(effort), as: UTF8.self)
      }
      conversation = asked
    } catch let error as LadderError {
      throw APIError.bad("messages", error.message)
    }
    rules = try Self.rules(
      fields, hasTools: conversation.tools != nil, hasGrammar: common.options.sampling.grammar != nil)
  }

  private static func rules(_ fields: Fields, hasTools: Bool, hasGrammar: Bool) throws -> AnswerRules {
    var rules = AnswerRules()
    rules.toolChoice = try choice(fields, hasTools: hasTools)
    rules.callsInParallel = try fields.flag("parallel_tool_calls") ?? hasTools
    rules.schema = try schema(fields)
    if hasGrammar, rules.schema != nil {
      throw APIError.bad("response_format", "response_format and a grammar exclude each other")
    }
    if hasGrammar, hasTools, rules.toolChoice != .none {
      throw APIError.bad("grammar", "a grammar and tools exclude each other; pass \"tool_choice\": \"none\"")
    }
    return rules
  }

  private static func choice(_ fields: Fields, hasTools: Bool) throws -> AnswerRules.ToolChoice {
    guard let value = fields["tool_choice"] else { return .auto }
    let choice: AnswerRules.ToolChoice? =
      switch value.string {
      case "auto": .auto
      case "none": AnswerRules.ToolChoice.none
      case "required": .required
      default: value.object["function"]?.object["name"]?.string.map { .function($0) }
      }
    guard let choice else {
      throw APIError.bad(
        "tool_choice",
        "tool_choice must be auto, none, required or {\"type\": \"function\", \"function\": {\"name\": …}}")
    }
    if !hasTools, choice != .auto, choice != .none {
      throw APIError.bad("tool_choice", "tool_choice needs tools to choose from")
    }
    return choice
  }

  /// What response_format asks for; nil is text.
  private static func schema(_ fields: Fields) throws -> String? {
    guard let format = try fields.object("response_format") else { return nil }
    let anyObject = "{\"type\": \"object\"}"
    switch try format.text("type") {
    case "text": return nil
    case "json_object":
      // llama.cpp's server takes a schema here.
      return try checked(format["schema"]) ?? anyObject
    case "json_schema":
      guard let wrapper = try format.object("json_schema"), let schema = try checked(wrapper["schema"]) else {
        throw APIError.bad("response_format", "response_format lacks json_schema.schema")
      }
      return schema
    default:
      throw APIError.bad("response_format", "response_format.type must be text, json_object or json_schema")
    }
  }

  private static func checked(_ schema: JSONText?) throws -> String? {
    guard let schema else { return nil }
    guard schema.isObject else { throw APIError.bad("response_format", "the schema must be an object") }
    try GrammarLimits.check(schema, "response_format")
    do { _ = try SamplingOptions.grammar(jsonSchema: schema.source) } catch {
      throw APIError.bad("response_format", error.message)
    }
    return schema.members.isEmpty ? "{\"type\": \"object\"}" : schema.source
  }
}
