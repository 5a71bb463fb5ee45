import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderInference
import LadderTrain
import TestModels
import Testing

@testable import LadderServe

/// Runs that come and go.
@Suite(.serialized) struct ServedLadderTests {
  let folder: TemporaryFolder
  let ladders: String

  init() throws {
    folder = try TemporaryFolder()
    ladders = folder.file("ladders")
    try FileManager.default.createDirectory(atPath: ladders, withIntermediateDirectories: true)
  }

  private func server(_ change: (inout ServerSettings) -> Void = { _ in }) async throws -> TestServer {
    let ladders = ladders
    return try await TestServer(folder) { settings in
      settings.folder = ladders
      change(&settings)
    }
  }

  private func names(_ server: TestServer) async throws -> [String] {
    (try await server.get("/v1/models")["data"] as? [[String: Any]] ?? []).compactMap { $0["id"] as? String }
  }

  private func put(_ run: String, as name: String) throws {
    let place = "\(ladders)/\(name)", temporary = "\(ladders)/.\(name)"
    try FileManager.default.copyItem(atPath: run, toPath: temporary)
    try? FileManager.default.removeItem(atPath: place)
    try FileManager.default.moveItem(atPath: temporary, toPath: place)
  }

  @Test func aFolderIsServedAsItChanges() async throws {
    let server = try await server()
    let one = folder.file("a"), two = folder.file("b")
    try server.train(one, learning: " one")
    try server.train(two, learning: " two")
    func expected(_ run: String) throws -> String {
      var options = GenerationOptions()
      options.maxTokens = 6
      return try LadderModel(server.backbone, adapter: RunDirectory(run)).generate("text 1", options: options).text
    }
    #expect(try await server.complete("first").status == 404)
    try put(one, as: "first")
    #expect(try await server.complete("first")["choices.0.text"] as? String == expected(one))
    #expect(try await server.get("/v1/models/first")["parent"] as? String == "tiny")
    try put(two, as: "first")
    #expect(try await server.complete("first")["choices.0.text"] as? String == expected(two))
    #expect(try await names(server) == ["tiny", "first"])
    // What cannot be read takes nobody's place.
    try Data("{".utf8).write(to: URL(fileURLWithPath: "\(ladders)/first/ladder.json"))
    #expect(try await server.complete("first")["choices.0.text"] as? String == expected(two))
    try FileManager.default.createDirectory(atPath: "\(ladders)/broken", withIntermediateDirectories: true)
    try Data("{}".utf8).write(to: URL(fileURLWithPath: "\(ladders)/broken/ladder.json"))
    try Data("no".utf8).write(to: URL(fileURLWithPath: "\(ladders)/broken/ladder.safetensors"))
    let broken = try await server.complete("broken")
    #expect(broken.status == 404 && broken["error.code"] as? String == "model_not_found")
    try FileManager.default.removeItem(atPath: "\(ladders)/first")
    #expect(try await server.complete("first").status == 404)
    #expect(try await names(server) == ["tiny"])
  }

  @Test func probabilitiesBesideTheModels() async throws {
    let server = try await server()
    try server.train("\(ladders)/own", learning: " own")
    let answer = try await server.chat("own", #", "logprobs": true, "compare_with_base": true"#)
    let tokens = answer["choices.0.logprobs.content"] as? [[String: Any]] ?? []
    #expect(!tokens.isEmpty && tokens.allSatisfy { $0["base_logprob"] is Double }, "\(answer.text)")
    #expect(try await server.chat("tiny", #", "logprobs": true, "compare_with_base": true"#).status == 400)
  }

  @Test func requestsLoadAndUnload() async throws {
    let closed = try await server()
    try closed.train(folder.file("a"), learning: " one")
    let load = #"{"lora_name": "mine", "lora_path": "\#(folder.file("a"))"}"#
    #expect(try await closed.post("/v1/load_lora_adapter", load).status == 403)
    let open = try await server { $0.allowsLoading = true }
    #expect(try await open.post("/v1/load_lora_adapter", load).status == 200)
    #expect(try await open.complete("mine").status == 200)
    #expect(try await open.post("/v1/load_lora_adapter", load).status == 400)
    #expect(try await open.post("/v1/load_lora_adapter", #"{"lora_name": "x", "lora_path": "/nowhere"}"#).status == 404)
    #expect(try await open.post("/v1/unload_lora_adapter", #"{"lora_name": "mine"}"#).status == 200)
    #expect(try await open.complete("mine").status == 404)
    #expect(try await open.post("/v1/unload_lora_adapter", #"{"lora_name": "mine"}"#).status == 404)
  }

  @Test func adaptersThatChangeTheModel() async throws {
    let server = try await server()
    try TestServer.train(server.backbone, "\(ladders)/inside", learning: " in", blocks: 2)
    try FileManager.default.copyItem(atPath: "\(ladders)/inside/adapter.gguf", toPath: "\(ladders)/alone.gguf")
    let run = try await server.complete("inside"), file = try await server.complete("alone")
    #expect(run.status == 200 && file["choices.0.text"] as? String == run["choices.0.text"] as? String, "\(run.text)")
    #expect(run["choices.0.text"] as? String != (try await server.complete()["choices.0.text"] as? String))
    #expect(try await server.get("/v1/models/inside")["method"] as? String == "qlora")
  }

  @Test func trainingRunsAreShown() async throws {
    let server = try await server()
    try server.train("\(ladders)/shown", learning: " one")
    let list = try await server.get("/runs")
    #expect(list["runs.0.name"] as? String == "shown" && list["runs.0.state"] as? String == "finished")
    #expect(list["runs.0.step"] as? Int == 12)
    let run = try await server.get("/runs/shown")
    #expect(run["manifest.method"] as? String == "lst" && run["summary.total_steps"] as? Int == 12)
    let metrics = try await server.get("/runs/shown/metrics")
    let next = try #require(metrics["next"] as? Int)
    #expect((metrics["steps"] as? [Any])?.count == 12)
    let later = try await server.get("/runs/shown/metrics?after=\(next)")
    #expect((later["steps"] as? [Any])?.isEmpty ?? false)
    let cut = try await server.get("/runs/shown/metrics?after=\(next + 100)")
    #expect(cut["restarted"] as? Bool == true && (cut["steps"] as? [Any])?.count == 12)
    #expect(try await server.get("/runs/nothing").status == 404)
    #expect(try await server.get("/runs/..%2F..").status == 404)
    let page = try await server.get("/")
    #expect(page.text.contains("<!doctype html>") && page.headers["content-security-policy"] != nil)
    #expect(try await server.get("/page/app.js").status == 200)
    #expect(try await server.get("/page/nothing.js").status == 404)
  }
}
