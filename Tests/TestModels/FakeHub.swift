import Foundation
import LadderCore

/// A hub on this machine: `fake_hub.py` as a process of its own, which ends with this object or this process.
package final class FakeHub: Sendable {
  package let folder = try? TemporaryFolder()
  package let port: Int
  package let otherPort: Int
  private let process: Process
  private let input: Pipe

  package enum Failure: Error { case noPython }

  package init() throws {
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("fake_hub.py").path
    let process = Process(), output = Pipe()
    input = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3", script, folder?.path ?? ""]
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    self.process = process
    var line = Data()
    while !line.contains(UInt8(ascii: "\n")) {
      let more = output.fileHandleForReading.availableData
      if more.isEmpty { break }
      line += more
    }
    let ports = String(decoding: line, as: UTF8.self).split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
    guard ports.count == 2 else { throw Failure.noPython }
    (port, otherPort) = (ports[0], ports[1])
  }

  deinit { process.terminate() }

  package var endpoint: String { "http://127.0.0.1:\(port)" }

  /// What a program needs in its environment to take this for the hub.
  package func environment(cache: String, token: String? = nil) -> [String: String] {
    var variables = ["HF_ENDPOINT": endpoint, "HF_HUB_CACHE": cache, "HF_HOME": cache + "-home"]
    variables["HF_TOKEN"] = token
    return variables
  }

  // MARK: - What it serves

  package func add(_ repository: String, _ path: String, _ data: Data) throws {
    let place = URL(fileURLWithPath: self.path("models/\(repository)/\(path)"))
    try FileManager.default.createDirectory(
      at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
    try data.write(to: place)
  }

  /// - Parameter contents: `{"features", "rows"}` as JSON.
  package func addRows(_ repository: String, _ configuration: String, _ split: String, _ contents: String) throws {
    let place = URL(fileURLWithPath: path("datasets/\(repository)/\(configuration)/\(split).json"))
    try FileManager.default.createDirectory(
      at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(contents.utf8).write(to: place)
  }

  /// Bytes that look like no other file's.
  package static func bytes(_ count: Int, seed: UInt64 = 1) -> Data {
    var random = SeededRandom(seed: seed)
    return Data((0..<count).map { _ in UInt8(truncatingIfNeeded: random.next() >> 32) })
  }

  /// - Parameter faults: each a JSON object without its `id`.
  package func setFaults(_ faults: String...) throws {
    let list = faults.map { "{\"id\": \"\(UUID().uuidString)\", " + $0.dropFirst() }
    try Data("[\(list.joined(separator: ", "))]".utf8).write(
      to: URL(fileURLWithPath: path("faults.json")), options: .atomic)
  }

  package func path(_ name: String) -> String { (folder?.path ?? "") + "/" + name }

  // MARK: - What it was asked

  package struct Request: Decodable, Sendable {
    package let host: String
    package let method: String
    package let path: String
    package let authorization: String?
    package let range: String?
  }

  package var requests: [Request] {
    let text = (try? String(contentsOfFile: path("requests.jsonl"), encoding: .utf8)) ?? ""
    return text.split(separator: "\n").compactMap { try? JSONDecoder().decode(Request.self, from: Data($0.utf8)) }
  }

  package func forgetRequests() { unlink(path("requests.jsonl")) }
}
