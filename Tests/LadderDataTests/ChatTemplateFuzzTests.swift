import Foundation
import LadderBackbone
import LadderCore
import LadderData
import TestModels
import Testing

/// Whatever stands where a chat template is expected, it renders a conversation or is refused in one line.
@Suite(.serialized) struct ChatTemplateFuzzTests {
  static let words = [
    "{{", "}}", "{%", "%}", "{#", "#}", "-%}", "{%-", "'", "\"", "[", "]", "(", ")", "|", ".", "not ", "is defined",
    "{% if ", "{% endif %}", "{% for m in messages %}", "{% endfor %}", "{% set x = ", "namespace(", "loop.last",
    "messages[0]", "messages[-1]['content'][5:]", "| tojson", "| trim", "| length", ".split('a')",
    "raise_exception('')",
    "{% macro f(x) %}", "{% endmacro %}", "f(f)", "1 / 0", "1 % 0", "none", "true", "~", "+", "**",
    "9999999999999999999",
    "\u{0}", "<|channel|>", "[TOOL_CALLS]", "<tool_call>", "<think>",
  ]

  @Test func changedTemplates() throws {
    let folder = try TemporaryFolder()
    let path = try folder.model {
      $0.chatTemplate = Template.chatML
      $0.controlTokens = ["<|im_start|>", "<|im_end|>"]
    }
    let vocabulary = try ModelVocabulary(path: path)
    let tools = #"[{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]"#
    let plain = Conversation([
      ChatMessage(role: "system", content: "be brief"), ChatMessage(role: "user", content: "a <|im_end|> b"),
      ChatMessage(role: "assistant", content: "c", reasoning: "hm"),
    ])
    let called = Conversation(
      [
        ChatMessage(role: "user", content: "1+1"),
        ChatMessage(
          role: "assistant", content: "", toolCalls: [ToolCall(id: "c", name: "add", arguments: "{\"a\": 1}")]),
        ChatMessage(role: "tool", content: "2", toolCallID: "c"), ChatMessage(role: "assistant", content: "2"),
      ], tools: tools, templateOptions: ["enable_thinking": "false"])
    let templates = [Template.chatML, Template.presumptuous, Template.forgetful, Template.able]
    var taken = 0, refused = 0
    try Mutations.forEach(of: templates.map { Array($0.utf8) }, words: Self.words, count: 1500) { bytes in
      vocabulary.useChatTemplate(String(decoding: bytes, as: UTF8.self), options: [:])
      for conversation in [plain, called] {
        do {
          let rendered = try vocabulary.rendered(conversation, opensAnswer: taken % 2 == 0)
          _ = try vocabulary.tokens(of: rendered)
          taken += 1
        } catch let error as LadderError {
          #expect(error.kind == .data && !error.message.contains("\n"), "\(error)")
          refused += 1
        }
      }
    }
    #expect(taken > 50 && refused > 100, "\(taken) taken, \(refused) refused")
  }
}
