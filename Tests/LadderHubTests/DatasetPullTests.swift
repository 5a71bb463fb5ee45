import Foundation
import LadderCore
import LadderHub
import TestModels
import Testing

/// Rows of data sets through the server that gives them.
@Suite(.serialized) struct DatasetPullTests {
  let server: FakeHub
  let folder: TemporaryFolder

  init() throws {
    server = try FakeHub()
    folder = try TemporaryFolder()
  }

  private func hub() throws -> Hub { Hub(try HubEnvironment(server.environment(cache: folder.file("cache")))) }

  private func rows(_ name: String, _ out: String = "out.jsonl", limit: Int? = nil) async throws -> DatasetRows {
    try await hub().rows(of: try HubName(name), to: folder.file(out), limit: limit)
  }

  private func refusal(_ name: String, _ out: String = "out.jsonl") async -> LadderError? {
    do { _ = try await rows(name, out) } catch { return error as? LadderError }
    return nil
  }

  private func lines(_ out: String = "out.jsonl") throws -> [String] {
    try String(contentsOfFile: folder.file(out), encoding: .utf8).split(separator: "\n").map(String.init)
  }

  private static let text = #"{"text": {"dtype": "string", "_type": "Value"}}"#

  private static func texts(_ count: Int, _ more: String = "") -> String {
    let rows = (0..<count).map { "{\"text\": \"row \($0)\"}" }.joined(separator: ", ")
    return "{\"features\": \(text), \"rows\": [\(rows)]\(more)}"
  }

  private var asked: [String] { server.requests.map(\.path).filter { $0.hasPrefix("/rows") } }

  @Test func allPagesCome() async throws {
    try server.addRows("a/b", "default", "train", Self.texts(250))
    try server.addRows("a/b", "default", "test", Self.texts(3))
    let result = try await rows("hf:datasets/a/b")
    #expect(result.rows == 250 && result.notes.isEmpty)
    #expect(try lines().map { $0.contains("row") } == Array(repeating: true, count: 250))
    #expect(try lines()[123] == #"{"text":"row 123"}"#)
    #expect(asked.count == 3 && asked[1].contains("offset=100&length=100"))
    #expect(try await rows("hf:datasets/a/b:test", "test.jsonl").rows == 3)
    #expect(try await rows("hf:datasets/a/b", "some.jsonl", limit: 120).rows == 120)
    #expect(FileManager.default.fileExists(atPath: folder.file("out.jsonl.part")) == false)
    #expect(await refusal("hf:datasets/a/b")?.kind == .usage)
  }

  @Test func valuesStayAsTheyAre() async throws {
    try server.addRows(
      "a/b", "default", "train",
      #"""
      {"features": {"x": {"_type": "Value"}, "m": {"_type": "List", "feature": {"_type": "Value"}},
        "label": {"_type": "ClassLabel", "names": ["neg", "pos"]}},
       "rows": [{"x": 1.0, "m": [{"role": "user", "content": "a \"b\" , c\n"}], "label": 1},
                {"x": 12345678901234567890, "m": [], "label": 0}]}
      """#)
    let result = try await rows("hf:datasets/a/b")
    #expect(
      try lines() == [
        #"{"x":1.0,"m":[{"role":"user","content":"a \"b\" , c\n"}],"label":1}"#,
        #"{"x":12345678901234567890,"m":[],"label":0}"#,
      ])
    #expect(result.notes == ["column label holds classes by their numbers: 0 neg, 1 pos"])
  }

  @Test func imagesAndSoundsAreLeftOut() async throws {
    try server.addRows(
      "a/b", "default", "train",
      #"""
      {"features": {"q": {"_type": "Value"}, "pages": {"_type": "List", "feature": {"_type": "Image"}},
        "all": {"deep": [{"s": {"_type": "Audio"}}]}},
       "rows": [{"pages": [{"src": "http://x", "height": 1}], "q": "what, and \"why\"", "all": {"deep": []}}]}
      """#)
    let result = try await rows("hf:datasets/a/b")
    #expect(try lines() == [#"{"q":"what, and \"why\""}"#])
    #expect(
      result.notes == [
        "column pages is left out: it holds Image", "column all is left out: it holds Audio",
      ])
    try server.addRows(
      "a/images", "default", "train", #"{"features": {"i": {"_type": "Image"}}, "rows": [{"i": {}}]}"#)
    let none = await refusal("hf:datasets/a/images", "none.jsonl")
    #expect(none?.kind == .data && none?.message.contains("Image") == true)
  }

  @Test func partsAreChosen() async throws {
    for configuration in ["main", "socratic"] {
      for split in ["train", "test"] { try server.addRows("a/b", configuration, split, Self.texts(2)) }
    }
    let open = await refusal("hf:datasets/a/b")
    #expect(open?.kind == .usage && open?.message.contains("main, socratic") == true)
    #expect(try await rows("hf:datasets/a/b/main").rows == 2)
    let wrong = await refusal("hf:datasets/a/b/main:dev")
    #expect(wrong?.kind == .missing && wrong?.message.contains("test, train") == true)
    #expect(await refusal("hf:datasets/a/none")?.kind == .missing)
  }

  @Test func whatBreaksOffGoesOnBehindItsLastLine() async throws {
    try server.addRows("a/b", "default", "train", Self.texts(350))
    try server.setFaults(
      #"{"match": "offset=200", "do": "status", "status": 503, "times": 5, "headers": {"Retry-After": "0"}}"#)
    #expect(await refusal("hf:datasets/a/b")?.kind == .inputOutput)
    let part = folder.file("out.jsonl.part")
    #expect(try String(contentsOfFile: part, encoding: .utf8).split(separator: "\n").count == 200)
    // A line that is cut short is fetched again.
    let handle = try #require(FileHandle(forWritingAtPath: part))
    try handle.seekToEnd()
    try handle.write(contentsOf: Data("{\"text\": \"ro".utf8))
    try handle.close()
    server.forgetRequests()
    #expect(try await rows("hf:datasets/a/b").rows == 350)
    #expect(asked.count == 2 && asked[0].contains("offset=200"))
    #expect(try lines() == (0..<350).map { "{\"text\":\"row \($0)\"}" })
  }

  @Test func aDataSetThatChangedIsFetchedAnew() async throws {
    try server.addRows("a/b", "default", "train", Self.texts(250))
    try server.setFaults(
      #"{"match": "offset=100", "do": "status", "status": 503, "times": 5, "headers": {"Retry-After": "0"}}"#)
    #expect(await refusal("hf:datasets/a/b") != nil)
    try server.addRows("a/b", "default", "train", Self.texts(120, #", "revision": "r2""#))
    #expect(try await rows("hf:datasets/a/b").rows == 120)
    #expect(try lines().count == 120)
  }

  @Test func largeRowsComeInSmallPages() async throws {
    try server.addRows("a/b", "default", "train", Self.texts(60, #", "most": 25"#))
    #expect(try await rows("hf:datasets/a/b").rows == 60)
    try server.addRows("a/c", "default", "train", Self.texts(30, #", "cut": {"7": ["text"]}"#))
    #expect(try await rows("hf:datasets/a/c", "c.jsonl").rows == 30)
    #expect(try lines("c.jsonl").count == 30)
    try server.addRows("a/d", "default", "train", Self.texts(30, #", "cut": {"7": ["text"]}, "always": true"#))
    let cut = await refusal("hf:datasets/a/d", "d.jsonl")
    #expect(cut?.kind == .data && cut?.message.contains("row 8") == true)
    try server.addRows("a/e", "default", "train", Self.texts(5, #", "partial": true"#))
    #expect(try await rows("hf:datasets/a/e", "e.jsonl").notes == ["the server has only the first 5 rows of a/e"])
  }
}
