import CLlama
import Foundation
import TestModels
import Testing

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// The server as a process of its own.
@Suite(.serialized) struct ServeTests {
  let folder: TemporaryFolder
  let model: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model("served.gguf") { $0.type = GGML_TYPE_F32 }
  }

  private func start(_ more: [String] = []) throws -> Command.Running {
    try Command.start(
      ["serve", "--model", model, "--device", "CPU", "--threads", "1", "--port", "0"] + more, in: folder)
  }

  /// The first line of what a process said on one of its outputs that holds a text.
  private func line(_ path: String, with text: String) async throws -> String {
    for _ in 0..<600 {
      let said = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
      if let line = said.split(separator: "\n").first(where: { $0.contains(text) }), said.hasSuffix("\n") {
        return String(line)
      }
      try await Task.sleep(for: .milliseconds(50))
    }
    Issue.record("nothing said \(text)")
    return ""
  }

  private func ask(_ address: String, _ path: String, _ body: String? = nil) async throws -> (Int, [String: Any]) {
    var request = URLRequest(url: try #require(URL(string: address + path)))
    if let body {
      request.httpMethod = "POST"
      request.httpBody = Data(body.utf8)
    }
    let (data, response) = try await URLSession.shared.data(for: request)
    let status = (response as? HTTPURLResponse)?.statusCode ?? 0
    return (status, (try? JSONSerialization.jsonObject(with: data)) as? [String: Any] ?? [:])
  }

  @Test func runningRequestsAreAnsweredBeforeItEnds() async throws {
    let server = try start()
    let address = try await line(server.outputPath, with: "http://127.0.0.1:")
    #expect(try await ask(address, "/health").0 == 200)
    let long = #"{"model": "served", "prompt": "a", "max_tokens": 400, "ignore_eos": true, "temperature": 0}"#
    async let answer = ask(address, "/v1/completions", long)
    for _ in 0..<200 where try await !isBusy(address) { try await Task.sleep(for: .milliseconds(5)) }
    server.process.terminate()
    let (status, object) = try await answer
    #expect(status == 200 && (object["usage"] as? [String: Any])?["completion_tokens"] as? Int == 400)
    let result = server.wait()
    #expect(result.status == 0, "\(result.errors)")
  }

  private func isBusy(_ address: String) async throws -> Bool {
    let url = try #require(URL(string: address + "/metrics"))
    return String(decoding: try await URLSession.shared.data(from: url).0, as: UTF8.self).contains("ladder_texts 1")
  }

  @Test func whatCannotBeServed() async throws {
    let server = try start()
    let address = try await line(server.outputPath, with: "http://127.0.0.1:")
    let port = try #require(address.split(separator: ":").last.map(String.init))
    for (arguments, status, text) in [
      (["--port", port], 64, "cannot listen"), (["--port", "70000"], 64, "--port"), (["--texts", "0"], 64, "--texts"),
      (["--ladders", folder.file("none")], 66, "no folder"), (["--api-key-file", folder.file("none")], 66, "key file"),
      (["--adapter", folder.file("none")], 66, "not a run"),
    ] as [([String], Int32, String)] {
      let result = try start(arguments).wait()
      #expect(result.status == status && result.lastError.contains(text), "\(result.errors)")
    }
    server.process.terminate()
    #expect(server.wait().status == 0)
  }

  @Test func aPageShowsTheRunThatTrains() async throws {
    let data = folder.file("samples.jsonl")
    try (0..<64).map { #"{"prompt": "text \#($0)", "completion": " one"}"# }.joined(separator: "\n")
      .write(toFile: data, atomically: true, encoding: .utf8)
    let training = try Command.start(
      [
        "train", "--model", model, "--data", data, "--out", folder.file("shown"), "--steps", "2000", "--device", "CPU",
        "--page", "--page-port", "0", "--rungs", "1,3", "--reduction", "2", "--head-size", "16",
      ], in: folder)
    let told = try await line(training.errorPath, with: "page is http://")
    let address = try #require(told.components(separatedBy: " ").first { $0.hasPrefix("http://") }).replacing(
      "/#runs", with: "")
    var steps = 0
    for _ in 0..<200 where steps == 0 {
      let (_, object) = try await ask(address, "/runs/shown/metrics")
      steps = (object["steps"] as? [Any])?.count ?? 0
      try await Task.sleep(for: .milliseconds(50))
    }
    #expect(steps > 0)
    let (_, list) = try await ask(address, "/runs")
    #expect(((list["runs"] as? [[String: Any]])?.first?["state"] as? String) == "training")
    #expect((try await ask(address, "/v1/models").1["data"] as? [Any])?.isEmpty ?? false)
    training.process.interrupt()
    #expect(training.wait().status == 130)
  }
}
