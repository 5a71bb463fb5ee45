import Foundation
import Ladder
import TestModels
import Testing

@Suite(.serialized) struct LibraryTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  static let lines = (0..<20).map { "{\"prompt\": \"p\($0)\", \"completion\": \" a\", \"choices\": [\" a\", \" b\"]}" }
    .joined(separator: "\n")

  @Test func theReadmesExampleRuns() throws {
    let data = try folder.write("d.jsonl", Self.lines)
    try readmeExample(model: try folder.model(), train: data, dev: data, out: folder.file("run"))
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
