import AsyncHTTPClient
import CLlama
import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderInference
import LadderTrain
import NIOCore
import TestModels
import Testing

@testable import LadderServe

/// A model and a server of it at a free port.
final class TestServer: Sendable {
  let folder: TemporaryFolder
  let backbone: Backbone
  let engine: GenerationEngine
  let address: String
  private let task: Task<Void, any Error>

  /// Tools are written as JSON, and calls of them between <tool_call> tags.
  static let template = """
    {% if tools %}<system>{% for t in tools %}{{ t | tojson }}{% endfor %}\
    Answer <tool_call>{"name": …, "arguments": …}</tool_call> to call one.</>{% endif %}\
    {% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}\
    <tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>\
    {% endfor %}{% endif %}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}
    """

  init(
    _ folder: TemporaryFolder, hasTemplate: Bool = true, pooling: Int? = nil,
    _ change: (inout ServerSettings) -> Void = { _ in }
  ) async throws {
    self.folder = folder
    backbone = try Backbone(
      path: try folder.model("tiny.gguf") { model in
        model.type = GGML_TYPE_F32
        model.pooling = pooling
        if hasTemplate { model.chatTemplate = Self.template }
      }, threads: 2, device: "CPU", head: nil, embeds: true)
    var settings = ServerSettings()
    settings.port = 0
    settings.generation.tokens = 4096
    change(&settings)
    engine = try GenerationEngine(backbone, settings: settings.generation)
    (address, task) = try await LadderServer(settings, engine: engine).start()
  }

  deinit { task.cancel() }

  /// A side network that has learned to go on in one way.
  static func train(_ backbone: Backbone, _ path: String, learning text: String, blocks: Int? = nil) throws {
    var settings = TrainingConfiguration()
    if blocks == nil {
      settings.side.rungs = .list([1, 3])
      settings.side.reduction = 2
      settings.side.headSize = 16
    } else {
      settings.method = .lora(.init())
    }
    settings.steps = 12
    settings.batchSize = 4
    settings.learningRate = 2e-2
    try Trainer(backbone, settings).train(
      (0..<16).map { Sample(prompt: "text \($0)", completion: text) }, into: RunDirectory(path))
  }

  func train(_ path: String, learning text: String) throws { try Self.train(backbone, path, learning: text) }

  // MARK: - Requests

  struct Answer {
    let status: Int
    let headers: [String: String]
    let body: Data

    var text: String { String(decoding: body, as: UTF8.self) }

    var object: [String: Any] { (try? JSONSerialization.jsonObject(with: body)) as? [String: Any] ?? [:] }

    /// A member of members: "choices.0.text".
    subscript(_ path: String) -> Any? { TestServer.member(path, of: object) }

    /// A stream's objects.
    var events: [[String: Any]] {
      text.components(separatedBy: "\n\n").compactMap { line in
        guard line.hasPrefix("data: "), line != "data: [DONE]" else { return nil }
        return (try? JSONSerialization.jsonObject(with: Data(line.dropFirst(6).utf8))) as? [String: Any]
      }
    }
  }

  static func member(_ path: String, of object: Any) -> Any? {
    path.split(separator: ".").reduce(object as Any?) { value, name in
      if let list = value as? [Any] { return Int(name).flatMap { list.indices.contains($0) ? list[$0] : nil } }
      let member = (value as? [String: Any])?[String(name)]
      return member is NSNull ? nil : member
    }
  }

  func send(
    _ method: String, _ path: String, _ body: Data? = nil, headers: [(String, String)] = []
  ) async throws -> Answer {
    var request = HTTPClientRequest(url: address + path)
    request.method = .RAW(value: method)
    for (name, value) in headers { request.headers.add(name: name, value: value) }
    if let body { request.body = .bytes(body) }
    let response = try await HTTPClient.shared.execute(request, timeout: .seconds(60))
    return Answer(
      status: Int(response.status.code),
      headers: Dictionary(response.headers.map { ($0.name.lowercased(), $0.value) }) { $0 + ", " + $1 },
      body: Data(try await response.body.collect(upTo: 1 << 24).readableBytesView))
  }

  func get(_ path: String) async throws -> Answer { try await send("GET", path) }

  func post(_ path: String, _ json: String, headers: [(String, String)] = []) async throws -> Answer {
    try await send("POST", path, Data(json.utf8), headers: headers)
  }

  /// A completion of "text 1" unless told otherwise.
  func complete(_ model: String = "tiny", _ more: String = "") async throws -> Answer {
    try await post(
      "/v1/completions",
      #"{"model": "\#(model)", "prompt": "text 1", "max_tokens": 6, "temperature": 0\#(more)}"#)
  }

  func chat(_ model: String = "tiny", _ more: String = "") async throws -> Answer {
    try await post(
      "/v1/chat/completions",
      #"{"model": "\#(model)", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 6, "temperature": 0\#(more)}"#
    )
  }

  /// A gauge or a counter.
  func metric(_ name: String) async throws -> Double? {
    try await get("/metrics").text.split(separator: "\n").first { $0.hasPrefix(name + " ") || $0.hasPrefix(name + "{") }
      .flatMap { $0.split(separator: " ").last }.flatMap { Double($0) }
  }

  /// Waits until something holds.
  func waits(seconds: Double = 20, for condition: () async throws -> Bool) async throws -> Bool {
    let end = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < end {
      if try await condition() { return true }
      try await Task.sleep(for: .milliseconds(50))
    }
    return false
  }
}
