import Foundation
import Ladder
import TestModels
import Testing

@Suite(.serialized) struct LibraryTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  static let lines = (0..<20).map { "{\"prompt\": \"p\($0)\", \"completion\": \" a\", \"choices\": [\" a\", \" b\"]}" }
    .joined(separator: "\n")

  @Test func theReadmesExampleRuns() async throws {
    let data = try folder.write("d.jsonl", Array(repeating: Self.lines, count: 8).joined(separator: "\n"))
    let pairs = try folder.write(
      "p.jsonl",
      (0..<96).map { "{\"prompt\": \"which of \($0)?\", \"chosen\": \" a\", \"rejected\": \" b\"}" }
        .joined(separator: "\n"))
    let model = try folder.model()
    let (result, judged) = try await readmeExample(
      model: model, train: data, dev: data, pairs: pairs, out: folder.file("run"))
    let base = try LadderModel(try Backbone(path: model)).evaluate(try Sample.load(data))
    #expect(result.metric == .choice && result.loss < base.loss, "\(result.loss) of \(base.loss)")
    #expect(judged.metric == .preference && (judged.margin ?? 0) > 0, "\(judged)")
  }

  @Test func theReadmeShowsTheExample() throws {
    var root = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { root.deleteLastPathComponent() }
    let readme = try String(contentsOf: root.appendingPathComponent("README.md"), encoding: .utf8)
    let source = try String(
      contentsOfFile: #filePath.replacingOccurrences(of: "LibraryTests", with: "ReadmeExample"), encoding: .utf8)
    let parts = source.components(separatedBy: "  // README\n")
    try #require(parts.count == 3)
    let code = parts[1].split(separator: "\n", omittingEmptySubsequences: false).map {
      $0.hasPrefix("  ") ? String($0.dropFirst(2)) : String($0)
    }.joined(
      separator: "\n")
    #expect(readme.contains(code))
  }
}
