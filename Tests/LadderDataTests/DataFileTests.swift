import Foundation
import LadderCore
import TestModels
import Testing

@testable import LadderData

/// Every form of a file gives its samples, or one line that names the place and what to write.
@Suite struct DataFileTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private static let two = [Sample(prompt: "a\u{2028}b", completion: " c"), Sample(.text("[{\"}é"))]
  private static let (first, second) = (
    "{\"prompt\": \"a\u{2028}b\", \"completion\": \" c\"}", "{\"text\": \"[{\\\"}é\"}"
  )

  private func file(_ name: String, _ bytes: [UInt8]) throws -> String {
    try Data(bytes).write(to: URL(fileURLWithPath: folder.file(name)))
    return folder.file(name)
  }

  @Test(arguments: [
    "\(first)\n\(second)\n", "\(first)\r\n\r\n \t\n\(second)", "\u{FEFF}\(first)\n\(second)\n", "[\(first),\(second)]",
    "\u{FEFF} [\n  \(first) ,\n\n  \(second)\n]\n",
    "{\n \"prompt\": \"a\u{2028}b\",\n \"completion\": \" c\"\n}\n\(second)\n",
  ]) func jsonIsRead(_ text: String) throws {
    #expect(try Sample.load(try folder.write("d.json", text)) == Self.two)
  }

  @Test(arguments: [
    ("{\"prompt\": \"a\",\n{\"text\": \"b\"}\n", "1:", "JSON"),
    ("[{\"text\": \"a\"}, {\"text\": 1}]", "1: element 2:", "text"),
    ("[\n{\"text\": \"a\"},\n\n3]", "4:", "element 2 is not a JSON object"), ("[{\"text\": \"a\"}", "1:", "comma"),
    ("[{\"text\": \"a\"}]\n[]", "2:", "more"), ("[\n{\"text\": \"a}]", "2:", "not closed"),
    ("{\n\"text\": \"a\"\n}\nx", "4:", "not a JSON object"), ("[]", "", "no samples"), ("\u{FEFF}", "", "no samples"),
  ]) func brokenJsonIsNamed(_ text: String, _ place: String, _ words: String) throws {
    let path = try folder.write("bad.json", text)
    let error = #expect(throws: LadderError.self) { try Sample.load(path) }
    #expect(error?.kind == .data && error?.message.hasPrefix(place.isEmpty ? path : "\(path):\(place)") == true)
    #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
  }

  @Test(
    arguments: [
      ([0x1F, 0x8B, 8, 0], "gunzip"), (Array("PAR1....".utf8), "Parquet"), (Array("PK\u{3}\u{4}".utf8), "unzip"),
      ([0xFF, 0xFE, 0x7B, 0], "UTF-8"), ([0xFE, 0xFF, 0, 0x7B], "UTF-8"), ([0x7B, 0, 0x22, 0], "UTF-8"),
    ] as [([UInt8], String)]) func otherFilesAreRefused(_ bytes: [UInt8], _ words: String) throws
  {
    let path = try file("packed", bytes)
    let error = #expect(throws: LadderError.self) { try Sample.load(path) }
    #expect(error?.kind == .data && error?.message.hasPrefix("\(path):1: ") == true, "\(error?.message ?? "")")
    #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
  }

  @Test func otherEncodingsAreNamedByLineAndByte() throws {
    let good = Array("{\"text\": \"é\"}\n".utf8), bad = Array("{\"text\": \"".utf8) + [0xE9] + Array("\"}\n".utf8)
    for (bytes, line) in [(good + bad, 2), (Array("[".utf8) + good + Array(",\n".utf8) + bad + Array("]".utf8), 3)] {
      let path = try file("latin", bytes)
      let error = #expect(throws: LadderError.self) { try Sample.load(path) }
      #expect(
        error?.message.hasPrefix("\(path):\(line): byte 11 of this line, 0xE9") == true, "\(error?.message ?? "")")
    }
  }

  @Test func tablesAreRead() throws {
    let rows = """
      prompt,completion,choices,,answer
      "say ""hi"", or
      not", yes,"["" yes"", "" no""]",1,
      \u{301}é, 4 ,,2,4

      "b" , "c",,,
      """
    let path = try folder.write("d.csv", "\u{FEFF}" + rows)
    #expect(
      try Sample.load(path) == [
        Sample(prompt: "say \"hi\", or\nnot", completion: " yes", choices: [" yes", " no"]),
        Sample(prompt: "\u{301}é", completion: " 4 ", answer: "4"), Sample(prompt: "b", completion: "c"),
      ])
    // A cell is what stands between its quotes or separators, byte for byte.
    let odd = "text\n\"он сказал \"\"привет\"\"\u{2028}\"\na\u{0C}b\u{0B}c\u{85}\r\"\"\"é\"\" é\" \rz"
    #expect(
      try Sample.load(try folder.write("odd.csv", odd))
        == ["он сказал \"привет\"\u{2028}", "a\u{0C}b\u{0B}c\u{85}", "\"é\" é", "z"].map { Sample(.text($0)) })
    // A list of messages is one; what merely begins as a list is a text.
    let turn = #""[{""role"": ""user"", ""content"": ""Why?""}]""#, said = ChatMessage(role: "user", content: "Why?")
    let pairs = try folder.write("p.csv", "prompt,chosen,rejected\n\(turn),[laughs] So.,\"[1, 2]\"\n")
    func reply(_ text: String) -> Sample.Form {
      .reply(to: Conversation([said]), with: [ChatMessage(role: "assistant", content: text)])
    }
    #expect(
      try Sample.load(pairs).map(\.form) == [.preference(chosen: reply("[laughs] So."), rejected: reply("[1, 2]"))])
    let turns = try folder.write(
      "c.csv",
      "conversations\n" + #""[{""from"": ""human"", ""value"": ""Why?""}, {""from"": ""gpt"", ""value"": ""So.""}]""#)
    #expect(
      try Sample.load(turns).map(\.form)
        == [.conversation(Conversation([said, ChatMessage(role: "assistant", content: "So.")]))])
    let tabs = try folder.write("d.tsv", "prompt\tcompletion\r\na, b\t c\r\n")
    #expect(try Sample.load(tabs) == [Sample(prompt: "a, b", completion: " c")])
    let semicolons = try folder.write("s.CSV", "prompt;completion\na, b; c")
    #expect(try Sample.load(semicolons) == [Sample(prompt: "a, b", completion: " c")])
  }

  /// An answer that is a list of something else is a text.
  @Test func aListOfNoMessagesIsAText() throws {
    let rows = "prompt,completion\na," + #""[{""entity"": ""Paris""}]""#
    #expect(
      try Sample.load(try folder.write("e.csv", rows)) == [Sample(prompt: "a", completion: #"[{"entity": "Paris"}]"#)])
    let bad = try folder.write("f.csv", "chosen,rejected\n\"[{'role': 'user'}]\",b\n")
    let error = #expect(throws: LadderError.self) { try Sample.load(bad) }
    #expect(error?.message.contains("chosen is not valid JSON") == true)
  }

  @Test(arguments: [
    ("text\na\n\"b\nc\n", 3, "not closed"), ("prompt,completion\na,b\n\nc\n", 4, "1 cells under 2 columns"),
    ("prompt,completion\n\"a\nb\",c\nd,e,f\n", 4, "3 cells"), ("text\na\nb\"c\n", 3, "quote"),
    ("text,text\na,b\n", 1, "one name"), ("\n\n", 1, "heading"), ("prompt,completion\na,\n", 2, "completion"),
    ("prompt,completion,choices\na,b,[b\n", 2, "choices is not valid JSON"),
  ]) func brokenTablesAreNamed(_ text: String, _ line: Int, _ words: String) throws {
    let path = try folder.write("bad.csv", text)
    let error = #expect(throws: LadderError.self) { try Sample.load(path) }
    #expect(error?.message.hasPrefix("\(path):\(line): ") == true, "\(error?.message ?? "")")
    #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
  }

  @Test func aLimitEndsTheReading() throws {
    for (name, text) in [
      ("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\nbroken"),
      ("a.json", "[{\"text\": \"a\"}, {\"text\": \"b\"}, broken"),
      ("a.csv", "text\na\nb\nc,d\n"),
    ] {
      var texts: [String] = []
      try DataFile(try folder.write(name, text)).forEach(limit: 2) {
        texts.append(String(decoding: $0.json, as: UTF8.self))
      }
      #expect(texts.count == 2 && texts[1].contains("\"b\""), "\(name): \(texts)")
    }
  }
}

@Suite struct DataSourceTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  @Test func aShareStandsBehindThePath() throws {
    let odd = try folder.write("odd:0.3", "{\"text\": \"a\"}\n")
    #expect(try DataSource(odd) == DataSource(path: odd))
    #expect(try DataSource("\(odd):2") == DataSource(path: odd, share: 2))
    #expect(try DataSource("none.jsonl:0.25") == DataSource(path: "none.jsonl", share: 0.25))
    #expect(try DataSource("a:b.jsonl") == DataSource(path: "a:b.jsonl"))
    #expect(try DataSource("a.jsonl:0.5").description == "a.jsonl:0.5")
    for wrong in ["a.jsonl:0", "a.jsonl:-1", "a.jsonl:1e9", "a.jsonl:nan"] {
      #expect(#expect(throws: LadderError.self) { try DataSource(wrong) }?.kind == .usage)
    }
  }

  @Test func sharesAreDrawnBySeed() throws {
    func taken(_ share: Double, seed: UInt64 = 1, file: Int = 0) -> [Int] {
      DataSource(path: "a", share: share).indices(of: 100, seed: seed, file: file)
    }
    let third = taken(0.3)
    #expect(third.count == 30 && Set(third).count == 30 && third == third.sorted() && third == taken(0.3))
    #expect(third != taken(0.3, seed: 2) && third != taken(0.3, file: 1))
    #expect(taken(1) == Array(0..<100) && taken(0.001).count == 1)
    let more = taken(2.5), counts = Dictionary(grouping: more) { $0 }.mapValues(\.count)
    #expect(more.count == 250 && counts.values.allSatisfy { $0 == 2 || $0 == 3 } && counts.count == 100)
  }

  @Test func filesFollowEachOther() throws {
    let a = try folder.write("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n"),
      b = try folder.write("b.csv", "text\nc\n")
    let samples = try Sample.load([DataSource(path: b, share: 2), DataSource(path: a)])
    #expect(samples == ["c", "c", "a", "b"].map { Sample(.text($0)) })
    let error = #expect(throws: LadderError.self) { try Sample.load([DataSource(path: a), DataSource(path: "none")]) }
    #expect(error?.kind == .missing && error?.message.contains("none") == true)
  }
}
