import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderInference
import TestModels
import Testing

/// Templates whose texts can be told by eye, on a tokenizer of a token a byte and control tokens of their own.
enum Template {
  static let chatML =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
  /// With a turn of the system's that nobody wrote.
  static let presumptuous =
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe good.<|im_end|>\\n' }}{% endif %}" + chatML
  /// Leaves out what earlier answers thought.
  static let forgetful =
    "{% for m in messages %}{% set text = m['content'] %}{% if m['role'] == 'assistant' and not loop.last and '</think>' "
    + "in text %}{% set text = text.split('</think>')[-1] %}{% endif %}"
    + "{{ '<|im_start|>' + m['role'] + '\\n' + text + '<|im_end|>\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
  /// Knows tools, thinking and an option.
  static let able =
    "{% if tools %}{{ '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}"
    + "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    + "{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content or '' }}"
    + "{% for c in m.tool_calls or [] %}{{ '[' + c.function.name + ' ' + (c.function.arguments | tojson) + ']' }}"
    + "{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    + "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think></think>' }}{% endif %}{% endif %}"
}

@Suite(.serialized) struct ConversationTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func backbone(_ template: String, _ change: (inout TinyModel) -> Void = { _ in }) throws -> Backbone {
    let path = try folder.model {
      $0.chatTemplate = template
      $0.controlTokens = ["<|im_start|>", "<|im_end|>"]
      change(&$0)
    }
    return try Backbone(path: path, threads: 1, device: "CPU")
  }

  private func talk(_ turns: (String, String)...) -> Conversation {
    Conversation(
      turns.map { ChatMessage(role: ["s": "system", "u": "user", "a": "assistant"][$0.0] ?? $0.0, content: $0.1) })
  }

  private func encode(
    _ conversation: Conversation, _ backbone: Backbone, maxLength: Int = 400, _ earlier: EarlierTurns = .separate
  ) throws -> ([EncodedSample], SampleEncoder.Count) {
    var count = SampleEncoder.Count()
    let encoder = SampleEncoder(backbone, maxLength: maxLength, earlierTurns: earlier)
    return (try encoder.encode(Sample(.conversation(conversation)), &count), count)
  }

  /// All tokens, the last target too.
  private func whole(_ sample: EncodedSample) -> [Int32] { sample.tokens + [sample.targets.last ?? -1] }

  private func text(_ tokens: [Int32], _ backbone: Backbone) -> String {
    backbone.tokenizer.text(tokens, special: true)
  }

  @Test func theAssistantsTurnsAreLearned() throws {
    let backbone = try backbone(Template.chatML)
    let (samples, _) = try encode(talk(("u", "hi"), ("a", "yo"), ("u", "ok"), ("a", "bye")), backbone)
    #expect(samples.count == 1)
    #expect(text(samples[0].targets, backbone) == "yo<|im_end|>\nbye<|im_end|>\n")
    #expect(
      text(whole(samples[0]), backbone)
        == "<s><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
        + "<|im_start|>user\nok<|im_end|>\n<|im_start|>assistant\nbye<|im_end|>\n")
  }

  /// A model has learned a few roles; a template takes any.
  @Test func aRoleThatNobodyKnowsIsRefused() throws {
    let backbone = try backbone(Template.chatML)
    let error = #expect(throws: LadderError.self) {
      try encode(talk(("u", "hi"), ("asistant", "yo"), ("u", "?"), ("a", "ok")), backbone)
    }
    #expect(error?.message.contains("asistant") == true)
    backbone.useChatTemplate("{# 'critic' #}" + Template.chatML)
    _ = try encode(talk(("critic", "hi"), ("a", "yo")), backbone)
  }

  /// Some templates know no tools' answers, or drop what is said beside a call.
  @Test func whatATemplateDropsIsTold() throws {
    let known =
      "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% elif m.role == 'user' or "
      + "m.role == 'assistant' %}{{ m.role }}: {{ m.content }}\n{% endif %}{% endfor %}"
    let backbone = try backbone(known)
    func render(_ messages: [ChatMessage]) throws {
      _ = try backbone.chatTemplate().render(Conversation(messages), opensAnswer: true)
    }
    let question = ChatMessage(role: "user", content: "the weather?")
    try render([question])
    for other in [
      ChatMessage(role: "tool", content: #"{"sky": "clear\nblue"}"#),
      ChatMessage(role: "assistant", content: "Let me look.", toolCalls: [.init(name: "weather", arguments: "{}")]),
    ] {
      let error = #expect(throws: LadderError.self) { try render([question, other, question]) }
      #expect(error?.message.contains("leaves out \"content\"") == true, "\(error?.message ?? "")")
    }
    try render([
      question, ChatMessage(role: "assistant", content: "", toolCalls: [.init(name: "weather", arguments: "{}")]),
    ])
  }

  /// A run's conversations keep the date of its beginning.
  @Test func aTemplateWritesTheDateThatItIsGiven() throws {
    let backbone = try backbone("{{ strftime_now('%Y-%m-%d') }}" + Template.chatML)
    func day() throws -> String {
      String(try backbone.chatTemplate().render(talk(("u", "hi")), opensAnswer: true).prefix(4))
    }
    #expect(try day() >= "2026")
    backbone.language.useChatTemplate(nil, options: [:], now: Date(timeIntervalSince1970: 20_000_000))
    #expect(try day() == "1970")
  }

  @Test func theTemplatesOwnTurnsAreThere() throws {
    let backbone = try backbone(Template.presumptuous)
    let (samples, _) = try encode(talk(("u", "hi"), ("a", "yo")), backbone)
    #expect(text(whole(samples[0]), backbone).hasPrefix("<s><|im_start|>system\nBe good.<|im_end|>\n<|im_start|>user"))
  }

  /// Tokens are those of the whole text, tokenised once: no space appears at a seam between turns.
  @Test func noSpaceIsPutBeforeAnAnswer() throws {
    let backbone = try backbone(Template.chatML) { $0.spacePrefix = true }
    let (samples, _) = try encode(talk(("u", "hi"), ("a", "yo")), backbone)
    let rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
    #expect(whole(samples[0]) == backbone.tokens(rendered, beginning: true, special: true))
  }

  /// Where a token would straddle prompt and completion, they are read apart, as they stand.
  @Test func noSpaceIsPutBeforeACompletion() throws {
    let backbone = try backbone(Template.chatML) { $0.spacePrefix = true }
    var count = SampleEncoder.Count()
    let sample = Sample(.completion(prompt: "<|im_start|>a<|im_", completion: "end|>b"))
    let encoded = try SampleEncoder(backbone, maxLength: 100).encode(sample, &count)
    #expect(encoded.map { text($0.targets, backbone) } == ["end|>b</s>"])
  }

  /// Some templates want a question: an opening line of the assistant's is then learned by none, and the rest is.
  @Test func aTurnThatIsRefusedAloneLosesNoOthers() throws {
    let wanting =
      "{% if messages | selectattr('role', 'equalto', 'user') | list | length == 0 %}{{ raise_exception('no question') }}"
      + "{% endif %}" + Template.chatML
    let backbone = try backbone(wanting)
    let (samples, count) = try encode(talk(("s", "x"), ("a", "Hello"), ("u", "hi"), ("a", "yo")), backbone)
    #expect(samples.map { text($0.targets, backbone) } == ["yo<|im_end|>\n"])
    #expect(count.omittedTurns == 1 && count.dropped == 0)
    let error = #expect(throws: LadderError.self) { try encode(talk(("s", "x"), ("a", "Hello")), backbone) }
    #expect(error?.message.contains("no question") == true)
  }

  /// Datasets write system turns, and thoughts, that say nothing.
  @Test func emptyTextsAreTaken() throws {
    let backbone = try backbone(Template.able)
    let line = #"""
      {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "a", "reasoning_content": ""},
      {"role": "assistant", "content": "b", "reasoning_content": ""}]}
      """#
    var count = SampleEncoder.Count()
    let samples = try SampleEncoder(backbone, maxLength: 200).encode(Sample(json: Data(line.utf8)), &count)
    #expect(samples.map { text($0.targets, backbone) } == ["b<|im_end|>\n"])
  }

  @Test func namesOfControlTokensInATextAreLetters() throws {
    let backbone = try backbone(Template.chatML)
    let question = "what is <|im_end|><|im_start|>, or <s>?"
    let (samples, _) = try encode(talk(("u", question), ("a", "an <|im_end|> of it")), backbone)
    let tokens = whole(samples[0]),
      marks = Set(backbone.tokens("<|im_end|><|im_start|>", beginning: false, special: true))
    #expect(marks.count == 2)
    #expect(tokens.filter { marks.contains($0) }.count == 4, "two turns, two marks each")
    #expect(tokens.filter { $0 == backbone.tokenizer.beginning }.count == 1)
    #expect(
      text(tokens, backbone)
        == "<s><|im_start|>user\n\(question)<|im_end|>\n<|im_start|>assistant\nan <|im_end|> of it<|im_end|>\n")
    #expect(text(samples[0].targets, backbone) == "an <|im_end|> of it<|im_end|>\n")
    // The same letters by bytes: what a tokenizer without control tokens gives.
    let plain = Array(question.utf8)
    #expect(text(tokens, backbone).utf8.count > plain.count)
    #expect(tokens.count == 1 + 4 + plain.count + "an <|im_end|> of it".utf8.count + "user\n\nassistant\n\n".utf8.count)
  }

  @Test(arguments: [
    "a\0b", "\u{F8FF}\u{F8FE} <|im_end|>", "日本語 👩‍👩‍👧 e\u{301}", "\u{2581}x \u{FFFE}", "{{ 1 + 1 }} {% x %}",
  ])
  func anyCharacterSurvives(_ written: String) throws {
    let backbone = try backbone(Template.chatML)
    let (samples, _) = try encode(talk(("u", written), ("a", "x" + written)), backbone)
    #expect(
      text(samples[0].targets, backbone).replacing(" ", with: "")
        == ("x" + written + "<|im_end|>\n").replacing("\u{2581}", with: "").replacing(" ", with: ""))
  }

  @Test func emptyAndWeightlessTurnsAreNotLearned() throws {
    let backbone = try backbone(Template.chatML)
    var conversation = talk(("u", "1"), ("a", ""), ("u", "2"), ("a", "two"), ("u", "3"), ("a", "three"))
    conversation.messages[3].isLearned = false
    let (samples, count) = try encode(conversation, backbone)
    #expect(samples.count == 1 && text(samples[0].targets, backbone) == "three<|im_end|>\n")
    #expect(count.emptyTurns == 1)
  }

  /// The last turn in the whole conversation, the one before as the model would have written it.
  @Test func aTurnThatIsRewrittenLaterIsSeenAsItIsWritten() throws {
    let backbone = try backbone(Template.forgetful)
    let conversation = talk(
      ("u", "2+2?"), ("a", "<think>two</think>4"), ("u", "3+3?"), ("a", "<think>three</think>6"))
    let (samples, count) = try encode(conversation, backbone)
    #expect(
      samples.map { text($0.targets, backbone) } == [
        "<think>two</think>4<|im_end|>\n", "<think>three</think>6<|im_end|>\n",
      ])
    #expect(!text(samples[0].tokens, backbone).contains("3+3"))
    #expect(text(samples[1].tokens, backbone).contains("assistant\n4<|im_end|>"))
    #expect(count.views == 1)
    let (last, omitted) = try encode(conversation, backbone, .omit)
    #expect(last == [samples[1]] && omitted.omittedTurns == 1)
  }

  /// What a cut conversation no longer holds has a view of its own; what it holds and rewrites is left out there too.
  @Test func rewrittenTurnsOfACutConversationAreOmitted() throws {
    let backbone = try backbone(Template.forgetful)
    let all = talk(
      ("u", "1+1, and a long question?"), ("a", "<think>one</think>2"), ("u", "2+2?"), ("a", "<think>two</think>4"),
      ("u", "3+3?"), ("a", "<think>three</think>6"))
    let size = try #require(try encode(all, backbone, .omit).0.first).tokens.count
    let (samples, count) = try encode(all, backbone, maxLength: size - 10, .omit)
    #expect(
      samples.map { text($0.targets, backbone) } == [
        "<think>one</think>2<|im_end|>\n", "<think>three</think>6<|im_end|>\n",
      ])
    #expect(count.omittedTurns == 1 && count.trimmed == 1)
  }

  @Test func aLongConversationIsCutAtTurns() throws {
    let backbone = try backbone(Template.chatML)
    let conversation = talk(
      ("s", "brief"), ("u", "one one one one"), ("a", "1"), ("u", "two two two two"), ("a", "2"),
      ("u", "three three"), ("a", "3"))
    let size = try #require(try encode(conversation, backbone).0.first).tokens.count
    let (samples, count) = try encode(conversation, backbone, maxLength: size - 10)
    #expect(samples.map { text($0.targets, backbone) } == ["1<|im_end|>\n", "2<|im_end|>\n3<|im_end|>\n"])
    for sample in samples {
      #expect(sample.tokens.count <= size - 10)
      #expect(text(sample.tokens, backbone).hasPrefix("<s><|im_start|>system\nbrief<|im_end|>\n<|im_start|>user\n"))
    }
    #expect(count.trimmed == 1 && count.dropped == 0 && count.views == 1)
    let (none, dropped) = try encode(
      talk(("u", "why?"), ("a", String(repeating: "x", count: 99))), backbone, maxLength: 50)
    #expect(none.isEmpty && dropped.dropped == 1)
  }

  @Test func toolsThinkingAndOptionsAreRendered() throws {
    let backbone = try backbone(Template.able)
    let line = #"""
      {"tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties":
      {"z": {"type": "number"}, "a": {"type": "number"}}}}}], "messages": [{"role": "user", "content": "2 + 3.0?"},
      {"role": "assistant", "content": null, "reasoning_content": "add them", "tool_calls": [{"id": "c1", "type":
      "function", "function": {"name": "add", "arguments": {"z": 2, "a": 3.0}}}]}, {"role": "tool", "tool_call_id": "c1",
      "content": "5"}, {"role": "assistant", "content": "5.", "weight": 0}]}
      """#.replacing("\n", with: " ")
    let sample = try Sample(json: Data(line.utf8))
    var count = SampleEncoder.Count()
    let samples = try SampleEncoder(backbone, maxLength: 1000).encode(sample, &count)
    let learned = text(samples[0].targets, backbone)
    #expect(learned.hasPrefix("<think>add them</think>[add "))
    #expect(learned.contains("z") && learned.hasSuffix("]<|im_end|>\n"))
    let z = try #require(learned.firstRange(of: "z")),
      a = try #require(learned.firstRange(of: "\"a\\\"").map { $0 } ?? learned.firstRange(of: "\"a\""))
    #expect(z.lowerBound < a.lowerBound, "arguments keep their order")
    #expect(text(samples[0].tokens, backbone).contains("\"add\""))
    let ask = Conversation([ChatMessage(role: "user", content: "hi")], templateOptions: ["enable_thinking": "false"])
    #expect(try backbone.chatTemplate().render(ask, opensAnswer: true).hasSuffix("assistant\n<think></think>"))
    backbone.useChatTemplate(nil, options: ["enable_thinking": "false"])
    #expect(try backbone.chatTemplate().render(talk(("u", "hi")), opensAnswer: true).hasSuffix("<think></think>"))
    backbone.useChatTemplate(Template.chatML)
    #expect(try backbone.chatTemplate().render(talk(("u", "hi")), opensAnswer: true).hasSuffix("assistant\n"))
  }

  /// What a template does not know is refused by its key, and never left out without a word.
  @Test func whatATemplateLeavesOutIsRefused() throws {
    let backbone = try backbone(Template.chatML)
    let call = ToolCall(name: "add", arguments: "{}")
    let message = ChatMessage(role: "assistant", content: "", toolCalls: [call])
    for (conversation, key) in [
      (Conversation([ChatMessage(role: "user", content: "q"), message]), "tool_calls"),
      (
        Conversation(
          [ChatMessage(role: "user", content: "q"), ChatMessage(role: "assistant", content: "a")],
          tools: "[{\"type\": \"function\", \"function\": {\"name\": \"add\"}}]"), "tools"
      ),
      (
        Conversation([
          ChatMessage(role: "user", content: "q"), ChatMessage(role: "assistant", content: "a", reasoning: "hm"),
        ]), "reasoning_content"
      ),
    ] {
      let error = #expect(throws: LadderError.self) { try encode(conversation, backbone) }
      #expect(error?.kind == .data && error?.message.contains("\"\(key)\"") == true, "\(error?.message ?? "")")
    }
    let raising = try self.backbone("{{ raise_exception('turns must alternate') }}")
    let error = #expect(throws: LadderError.self) { try encode(talk(("u", "q"), ("a", "a")), raising) }
    #expect(error?.message.contains("turns must alternate") == true, "\(error?.message ?? "")")
  }

  /// GPT-OSS's answers end otherwise when they are the last, and that is how the model has to end them.
  @Test func anAnswerEndsAsTheModelEndsIt() throws {
    let template =
      "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
      + "{% if loop.last and m.role == 'assistant' and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
      + "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}{# <|channel|> #}"
    let backbone = try backbone(template) {
      $0.controlTokens = ["<|start|>", "<|message|>", "<|end|>", "<|return|>", "<|channel|>"]
    }
    let (samples, _) = try encode(talk(("u", "1"), ("a", "one"), ("u", "2"), ("a", "two <|return|>")), backbone)
    #expect(
      samples.map { text($0.targets, backbone) } == [
        "<|message|>one<|return|>", "<|message|>two <|return|><|return|>",
      ])
    #expect(text(samples[1].tokens, backbone).contains("one<|end|><|start|>user"))
    #expect(samples[1].targets.filter { $0 == samples[0].targets.last }.count == 1, "what somebody wrote is letters")
  }

  /// A vocabulary that puts an end behind every text: once behind what is learned, never behind a prompt.
  @Test func theEndIsThereOnce() throws {
    let backbone = try backbone(Template.chatML) { $0.addsEnd = true }
    var count = SampleEncoder.Count()
    let encoder = SampleEncoder(backbone, maxLength: 100), end = try #require(backbone.tokenizer.end)
    let sample = try #require(try encoder.encode(Sample(prompt: "ab", completion: "cd"), &count).first)
    #expect(whole(sample).filter { $0 == end }.count == 1 && sample.targets.last == end)
    let prompt = try #require(try encoder.prompt(Sample(prompt: "ab", completion: "cd")))
    let asked = try #require(try encoder.prompt(Sample(.conversation(talk(("u", "a"), ("a", "b"))))))
    #expect(!prompt.contains(end) && !asked.contains(end))
  }

  /// A text that already went through a template keeps its marks, and has one beginning.
  @Test func aTemplatedTextKeepsItsMarks() throws {
    let backbone = try backbone(Template.chatML)
    let templated = "<s><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
    var count = SampleEncoder.Count()
    let encoder = SampleEncoder(backbone, maxLength: 100)
    let sample = try #require(try encoder.encode(Sample(.text(templated)), &count).first)
    #expect(whole(sample).dropLast() == backbone.tokens(templated, beginning: false, special: true)[...])
    #expect(count.templated == 1)
    let plain = try #require(try encoder.encode(Sample(.text("see <|im_end|>")), &count).first)
    #expect(whole(plain).count == 1 + "see <|im_end|>".utf8.count + 1 && count.templated == 1)
  }
}
