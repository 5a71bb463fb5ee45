import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import TestModels
import Testing

@Suite(.serialized) struct SampleTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  @Test func everyFormIsRead() throws {
    let path = try folder.write(
      "d.jsonl",
      """
      {"prompt": "a", "completion": " b", "choices": [" b", " c"]}
      {"prompt": "a", "completion": " 4", "answer": 4}

      {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
      {"text": "whole"}
      {"instruction": "do", "input": "this", "output": "done", "choices": ["done", "left"]}
      {"system": "be brief", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
      """)
    let samples = try Sample.load(path)
    #expect(samples.count == 6 && samples[4].choices == ["done", "left"])
    #expect(samples.allSatisfy { $0.unread.isEmpty })
    guard case .conversation(let conversation) = samples[5].form else {
      Issue.record("\(samples[5])")
      return
    }
    #expect(conversation.messages.map(\.role) == ["system", "user", "assistant"])
    #expect(samples[0].choices == [" b", " c"])
    #expect(samples[1].answer == "4")
    #expect(samples[3] == Sample(.text("whole")))
  }

  @Test(arguments: [
    ("{\"prompt\": \"a\"", "JSON"), ("[1]", "object"), ("{\"prompt\": \"a\", \"completion\": \"\"}", "empty"),
    ("{\"prompt\": \"a\"}", "completion"),
    ("{\"prompt\": 3, \"completion\": \"b\"}", "prompt"),
    ("{\"prompt\": \"a\", \"completion\": \"b\", \"choices\": [\"c\", \"d\"]}", "choices"),
    (
      #"{"system": "s", "messages": [{"role": "system", "content": "s"}, {"role": "assistant", "content": "a"}]}"#,
      "system"
    ),
    ("{\"text\": \"\"}", "empty"), ("{\"other\": 1}", "prompt"),
    ("{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}", "assistant"),
    ("\u{FFFD}{", "JSON"),
  ]) func aBadLineIsNamed(_ line: String, _ word: String) throws {
    let path = try folder.write("bad.jsonl", String(repeating: "{\"text\": \"fine\"}\n", count: 16) + line + "\n")
    let error = #expect(throws: LadderError.self) { try Sample.load(path) }
    #expect(error?.kind == .data)
    #expect(error?.message.contains("bad.jsonl:17:") == true)
    #expect(error?.message.contains(word) == true)
  }

  @Test func emptyAndMissingFiles() throws {
    #expect(#expect(throws: LadderError.self) { try Sample.load(folder.file("none")) }?.kind == .missing)
    let empty = try folder.write("empty.jsonl", "\n\n")
    #expect(#expect(throws: LadderError.self) { try Sample.load(empty) }?.kind == .data)
  }
}

@Suite(.serialized) struct EncodingTests {
  let folder: TemporaryFolder
  let backbone: Backbone
  init() throws {
    folder = try TemporaryFolder()
    backbone = try Backbone(path: try folder.model(), threads: 1, device: "CPU")
  }

  private func text(_ tokens: [Int32]) -> String { backbone.tokenizer.text(tokens) }

  private func encode(_ sample: Sample, maxLength: Int = 100, overlong: Overlong = .trim) throws -> (
    EncodedSample?, SampleEncoder.Count
  ) {
    var count = SampleEncoder.Count()
    let encoded = try SampleEncoder(backbone, maxLength: maxLength, overlong: overlong).encode(sample, &count)
    #expect(encoded.count < 2)
    return (encoded.first, count)
  }

  @Test func lossIsOnTheCompletionAndItsEnd() throws {
    let e = try #require(try encode(Sample(prompt: "abc", completion: " de")).0)
    #expect(text(e.targets) == " de")
    #expect(e.targets.last == backbone.tokenizer.end)
    #expect(e.tokens.count == 1 + 3 + 3)
    #expect(e.lossRows == [3, 4, 5, 6])
  }

  @Test func aChoiceDoesNotEnd() throws {
    let e = try #require(try encode(Sample(prompt: "abc", completion: " d", choices: [" d", " e"])).0)
    #expect(text(e.targets) == " d")
    #expect(e.targets.last != backbone.tokenizer.end)
  }

  /// Two choices part at their second letter, the third at the first; where one is left, its target competes with all.
  @Test func choicesCompeteWhereTheyPart() throws {
    let encoder = SampleEncoder(backbone, maxLength: 100, objective: .choices), choices = ["xay", "xb", "z"]
    var count = SampleEncoder.Count()
    let e = try #require(try encoder.encode(Sample(prompt: "abc ", completion: "xay", choices: choices), &count).first)
    #expect(e.rivals.map { Set($0.map { text([$0]) }) } == [["x", "z"], ["a", "b"], []])
    #expect(e.rivals.allSatisfy { $0 == $0.sorted() })
    #expect(
      try #require(try encoder.encode(Sample(prompt: "abc ", completion: "xay"), &count).first).rivals.allSatisfy(
        \.isEmpty))
  }

  /// Where one choice begins as another does, only their ends tell them apart; other choices stay as they stand.
  @Test func aChoiceThatBeginsAnotherEnds() throws {
    let encoder = SampleEncoder(backbone, maxLength: 100, objective: .choices), choices = ["10", "2", "1"]
    var count = SampleEncoder.Count()
    let sample = Sample(prompt: "n: ", completion: "1", choices: choices), end: Int32 = 2
    let e = try #require(try encoder.encode(sample, &count).first)
    #expect(text(Array(e.targets.prefix(1))) == "1" && Array(e.targets.dropFirst()) == [end])
    #expect(e.rivals.count == 2 && Set(e.rivals[0].map { text([$0]) }) == ["1", "2"])
    #expect(e.rivals[1].count == 2 && e.rivals[1].contains(end))
    let all = try #require(encoder.encodeChoices(sample, &count))
    #expect(all.allSatisfy { $0.targets.last == end } && all.map(\.targets.count) == [3, 2, 2])
    let others = try #require(
      encoder.encodeChoices(Sample(prompt: "n: ", completion: "1", choices: ["1", "2", "3"]), &count))
    #expect(others.allSatisfy { $0.targets.count == 1 })
  }

  @Test func textHasLossEverywhere() throws {
    let e = try #require(try encode(Sample(.text("abcd"))).0)
    #expect(text(e.targets) == "abcd")
    #expect(e.lossRows == [0, 1, 2, 3, 4])
  }

  /// In pieces, each token learned once; a piece begins as a text does and with the last token of the one before.
  @Test func aLongTextIsTakenInPieces() throws {
    let text = String((0..<50).map { Character(UnicodeScalar(UInt8(65 + $0 % 26))) })
    var count = SampleEncoder.Count()
    let pieces = try SampleEncoder(backbone, maxLength: 12).encode(Sample(.text(text)), &count)
    #expect(pieces.flatMap(\.targets) == backbone.tokens(text, beginning: false, special: false) + [2])
    #expect(pieces.allSatisfy { $0.tokens.count <= 12 && $0.tokens[0] == backbone.tokenizer.beginning })
    for (before, piece) in zip(pieces, pieces.dropFirst()) { #expect(piece.tokens[1] == before.targets.last) }
    #expect(count.split == 1 && count.trimmed == 0 && count.dropped == 0)
  }

  @Test func tooLongAPromptLosesItsStart() throws {
    let (e, count) = try encode(
      Sample(prompt: String(repeating: "x", count: 60) + "abc", completion: "de"), maxLength: 10)
    let encoded = try #require(e)
    #expect(text(encoded.targets) == "de")
    #expect(encoded.tokens.first == backbone.tokenizer.beginning)
    #expect(encoded.tokens.count == 9)
    #expect(count.trimmed == 1 && count.dropped == 0)
  }

  @Test func tooLongACompletionIsDropped() throws {
    let (e, count) = try encode(Sample(prompt: "ab", completion: String(repeating: "x", count: 60)), maxLength: 10)
    #expect(e == nil)
    #expect(count.dropped == 1)
  }

  @Test func dropDropsWhatTrimWouldCut() throws {
    let (e, count) = try encode(
      Sample(prompt: String(repeating: "x", count: 60), completion: "de"), maxLength: 10, overlong: .drop)
    #expect(
      e == nil
        && count
          == {
            var c = SampleEncoder.Count(); c.dropped = 1; return c
          }()
    )
  }

  @Test func nothingThatFitsIsAnError() {
    let encoder = SampleEncoder(backbone, maxLength: 4)
    #expect(throws: LadderError.self) { try encoder.encode([Sample(prompt: "abc", completion: "defgh")], name: "x") }
  }
}

@Suite struct BatchPlanTests {
  @Test func everySampleComesOnceAndTheSeedDecidesTheOrder() {
    let lengths = (0..<103).map { 5 + ($0 * 31) % 47 }
    let plan = BatchPlan(lengths: lengths, batchSize: 8, seed: 3, epoch: 1)
    #expect(plan.batches.flatMap { $0 }.sorted() == Array(0..<103))
    #expect(plan.batches == BatchPlan(lengths: lengths, batchSize: 8, seed: 3, epoch: 1).batches)
    #expect(plan.batches != BatchPlan(lengths: lengths, batchSize: 8, seed: 3, epoch: 2).batches)
    let spread = plan.batches.map { batch in
      (batch.map { lengths[$0] }.max() ?? 0) - (batch.map { lengths[$0] }.min() ?? 0)
    }
    #expect(spread.reduce(0, +) / spread.count < 12)
  }

  @Test func microBatchesHoldAtMostTheirTokens() {
    let packed = BatchPlan.pack([0, 1, 2, 3, 4], lengths: [40, 40, 40, 200, 10], tokens: 100)
    #expect(packed == [[0, 1], [2], [3], [4]])
  }

  /// TRL's formats of pairs.
  @Test func pairs() throws {
    func form(_ json: String) throws -> Sample.Form { try Sample(json: Data(json.utf8)).form }
    let text = Sample.Form.preference(
      chosen: .completion(prompt: "Why?", completion: " So."), rejected: .completion(prompt: "Why?", completion: " No.")
    )
    #expect(try form(#"{"prompt": "Why?", "chosen": " So.", "rejected": " No."}"#) == text)
    #expect(try form(#"{"chosen": "Why? So.", "rejected": "Why? No."}"#) == text)
    let ask = ChatMessage(role: "user", content: "Why?")
    let so = ChatMessage(role: "assistant", content: "So."), no = ChatMessage(role: "assistant", content: "No.")
    let turns = Sample.Form.preference(
      chosen: .reply(to: Conversation([ask]), with: [so]),
      rejected: .reply(to: Conversation([ask]), with: [no]))
    let (a, b, c) = (
      #"{"role": "user", "content": "Why?"}"#, #"{"role": "assistant", "content": "So."}"#,
      #"{"role": "assistant", "content": "No."}"#
    )
    #expect(try form("{\"prompt\": [\(a)], \"chosen\": [\(b)], \"rejected\": [\(c)]}") == turns)
    #expect(try form("{\"chosen\": [\(a), \(b)], \"rejected\": [\(a), \(c)]}") == turns)
    // A text beside them is their question, whether they hold it or not.
    #expect(try form("{\"prompt\": \"Why?\", \"chosen\": [\(a), \(b)], \"rejected\": [\(a), \(c)]}") == turns)
    #expect(try form("{\"prompt\": \"Why?\", \"chosen\": [\(b)], \"rejected\": [\(c)]}") == turns)
    #expect(try form("{\"prompt\": [\(a)], \"chosen\": [\(a), \(b)], \"rejected\": [\(a), \(c)]}") == turns)
    for wrong in [
      #"{"prompt": "a", "chosen": "b"}"#, #"{"prompt": "a", "chosen": "b", "rejected": "b"}"#,
      #"{"prompt": "a", "chosen": "", "rejected": "b"}"#,
      #"{"prompt": "a", "chosen": 1, "rejected": "b"}"#, "{\"chosen\": [\(a)], \"rejected\": [\(a), \(c)]}",
    ] {
      let error = #expect(throws: LadderError.self) { try Sample(json: Data(wrong.utf8)) }
      #expect(error?.kind == .data, "\(wrong)")
    }
  }
}
