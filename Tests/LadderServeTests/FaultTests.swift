import AsyncHTTPClient
import Foundation
import LadderBackbone
import LadderCore
import LadderInference
import NIOCore
import TestModels
import Testing

@testable import LadderServe

/// Requests that cannot be answered, and clients that misbehave.
@Suite(.serialized) struct FaultTests {
  private func error(_ answer: TestServer.Answer) -> String? { answer["error.code"] as? String }

  @Test func wrongRequestsHaveTheRightStatus() async throws {
    let server = try await TestServer(TemporaryFolder()) { $0.limits.body = 20_000 }
    func status(_ path: String, _ body: String, _ status: Int, _ code: String? = nil) async throws {
      let answer = try await server.post(path, body)
      #expect(answer.status == status, "\(body.prefix(200)): \(answer.text)")
      #expect(answer["error.message"] is String && answer["error.type"] is String, "\(answer.text)")
      if let code { #expect(self.error(answer) == code) }
    }
    let chat = "/v1/chat/completions", text = "/v1/completions"
    for body in ["", "{", "[]", "null", "\u{FF}"] {
      try await status(chat, body, 400, "invalid_json")
    }
    let messages = #""messages": [{"role": "user", "content": "a"}]"#
    try await status(chat, "{\(messages)}", 400)
    try await status(chat, #"{"model": "who", \#(messages)}"#, 404, "model_not_found")
    try await status(chat, #"{"model": 3, \#(messages)}"#, 400)
    for more in [
      #""temperature": 3"#, #""temperature": "hot""#, #""top_p": -1"#, #""n": 0"#, #""n": 1.5"#, #""max_tokens": 0"#,
      #""max_tokens": -1"#, #""stop": [1]"#, #""stop": [""]"#, #""stream": "yes""#, #""logit_bias": {"99999999": 1}"#,
      #""logit_bias": {"a": 1}"#, #""top_logprobs": 2"#, #""logprobs": true, "top_logprobs": 21"#, #""seed": "x""#,
      #""response_format": {"type": "xml"}"#, #""tools": "x""#, #""tool_choice": "required""#,
      #""stream_options": {"include_usage": true}"#, #""temperature": 1e999"#,
    ] {
      try await status(chat, #"{"model": "tiny", \#(messages), \#(more)}"#, 400)
    }
    for list in [
      "[]", #"[{"role": "user"}]"#, #"[{"role": "wizard", "content": "a"}]"#, #"["a"]"#, "{}",
      #"[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]"#,
    ] {
      try await status(chat, #"{"model": "tiny", "messages": \#(list)}"#, 400)
    }
    let bare = try await TestServer(TemporaryFolder(), hasTemplate: false)
    #expect(try await bare.chat().status == 400)
    for prompt in ["null", "[]", "{}", "3", "[[]]", "[99999999]", "[-1]", #"["a", 1]"#, #""a\u0000b""#] {
      try await status(text, #"{"model": "tiny", "prompt": \#(prompt)}"#, 400)
    }
    let long = String(repeating: "word ", count: 3000)
    try await status(text, #"{"model": "tiny", "prompt": "\#(long)"}"#, 400, "context_length_exceeded")
    try await status(text, #"{"model": "tiny", "prompt": "\#(long + long)"}"#, 413)
    try await status("/v1/embeddings", #"{"model": "tiny", "input": "a"}"#, 400)
    try await status("/v1/nothing", "{}", 404, "not_found")
    #expect(try await server.send("PUT", "/v1/completions").status == 405)
    #expect(try await server.send("HEAD", "/health").status == 200)
    #expect(try await server.complete().status == 200)
  }

  @Test func onlyTheKeyOpens() async throws {
    let server = try await TestServer(TemporaryFolder()) { $0.key = "secret" }
    let body = #"{"model": "tiny", "prompt": "a", "max_tokens": 1}"#
    for headers in [[], [("Authorization", "Bearer wrong")], [("Authorization", "secret")]] {
      let answer = try await server.post("/v1/completions", body, headers: headers)
      #expect(answer.status == 401 && error(answer) == "invalid_api_key")
    }
    #expect(try await server.get("/metrics").status == 401)
    #expect(try await server.get("/runs").status == 401)
    #expect(try await server.get("/").status == 200)
    #expect(try await server.get("/health").status == 200)
    let answer = try await server.post("/v1/completions", body, headers: [("Authorization", "Bearer secret")])
    #expect(answer.status == 200)
  }

  @Test func otherSitesAskOnlyWhereTold() async throws {
    let closed = try await TestServer(TemporaryFolder())
    #expect(
      try await closed.send("GET", "/v1/models", headers: [("Origin", "http://a.b")]).headers[
        "access-control-allow-origin"] == nil)
    let open = try await TestServer(TemporaryFolder()) { $0.origin = "http://a.b" }
    let answer = try await open.send("GET", "/v1/nothing", headers: [("Origin", "http://a.b")])
    #expect(answer.headers["access-control-allow-origin"] == "http://a.b")
  }

  @Test func aForeignNameIsNotAnswered() async throws {
    let server = try await TestServer(TemporaryFolder()) { $0.hosts = ["ladder.example.org"] }
    func status(_ host: String) async throws -> Int {
      try await server.send("GET", "/v1/models", headers: [("Host", host)]).status
    }
    #expect(try await status("evil.example") == 403)
    for host in ["localhost", "127.0.0.1:1", "[::1]:80", "ladder.example.org"] {
      #expect(try await status(host) == 200)
    }
    let foreign = try await server.post(
      "/v1/completions", #"{"model": "tiny", "prompt": "a"}"#, headers: [("Origin", "http://evil.example")])
    #expect(foreign.status == 403)
  }

  @Test func whatWouldOverflowAStackIsRefused() async throws {
    let server = try await TestServer(TemporaryFolder())
    func status(_ more: String) async throws -> Int { try await server.chat("tiny", more).status }
    let deep = String(repeating: "(", count: 50_000), name = String(repeating: ".", count: 200_000)
    #expect(try await status(#", "grammar": "root ::= \#(deep)""#) == 400)
    // Brackets behind a comment that looks like the beginning of a text.
    let hidden = ##"# \"\nroot ::= "## + deep
    #expect(try await status(#", "grammar": "\#(hidden)""#) == 400)
    let chain = (0..<20_000).map { "a\($0) ::= a\($0 + 1)" }.joined(separator: "\\n")
    #expect(try await status(#", "grammar": "root ::= a0\n\#(chain)""#) == 400)
    let schema = #"{"type": "object", "properties": {"\#(name)": {"type": "string"}}}"#
    #expect(try await status(#", "json_schema": "# + schema) == 400)
    #expect(try await status(#", "response_format": {"type": "json_object", "schema": "# + schema + "}") == 400)
    let nested = String(repeating: #"{"items": "#, count: 300) + "{}" + String(repeating: "}", count: 300)
    #expect(try await status(#", "json_schema": "# + nested) == 400)
    #expect(try await server.complete().status == 200)
  }

  /// Grammars of a few hundred bytes whose reading takes for ever, or all memory.
  @Test func grammarsOfEndlessWorkAreRefused() async throws {
    let server = try await TestServer(TemporaryFolder())
    let doubling =
      "root ::= a0\\n" + (0..<40).map { "a\($0) ::= a\($0 + 1) a\($0 + 1) | \\\"\\\"\\n" }.joined()
      + #"a40 ::= \"x\" | \"\""#
    let repeating = "root ::= " + (0..<30).map { _ in #"\"a\"{0,2000}"# }.joined(separator: " ")
    let long = #"root ::= \""# + String(repeating: "a", count: 60) + #"\"{0,2000}"#
    // To llama.cpp a comment ends with its line, whatever stands before the end.
    let hidden = [##"#\\\n"##, ##"#\r"##].map { $0 + repeating }
    for grammar in [doubling, repeating, long] + hidden {
      let answer = try await server.complete("tiny", #", "grammar": "\#(grammar)""#)
      #expect(answer.status == 400 && answer.text.contains("the grammar's"), "\(answer.text)")
    }
    let properties = (0..<400).map { #""p\#($0)": {"type": "string", "maxLength": 2000}"# }.joined(separator: ", ")
    let schema = #"{"type": "object", "properties": {\#(properties)}}"#
    #expect(try await server.complete("tiny", #", "json_schema": "# + schema).status == 400)
    let chat = try await server.chat("tiny", #", "response_format": {"type": "json_object", "schema": "# + schema + "}")
    #expect(chat.status == 400)
    let wide =
      String(repeating: #"{"type": ["object", "object", "array", "object"], "properties": {"a": "#, count: 14) + "{}"
      + String(repeating: "}}", count: 14)
    let around =
      ##"{"allOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}"##
    let optional = #"{"properties": {\#((0..<300).map { #""a\#($0)": {}"# }.joined(separator: ", "))}}"#
    let parts = String(repeating: ##"{"$ref": "#/$defs/A"}, "##, count: 300) + "{}"
    let together = #"{"allOf": [{"anyOf": [\#(parts)]}], "$defs": {"A": {"properties": {"a": {}, "b": {}}}}}"#
    let many = (0..<300).map { #""a\#($0)": {}"# }.joined(separator: ", ")
    let all = (0..<300).map { #""a\#($0)""# }.joined(separator: ", ")
    let required = #"{"allOf": [{"anyOf": [{"properties": {\#(many)}, "required": [\#(all)]}]}]}"#
    for schema in [wide, around, optional, together, required] {
      #expect(try await server.complete("tiny", #", "json_schema": "# + schema).status == 400)
      let tool = #"{"type": "function", "function": {"name": "f", "parameters": \#(schema)}}"#
      #expect(try await server.chat("tiny", #", "tools": [\#(tool)]"#).status == 400)
    }
    // Rules that lead back to themselves, and some that are used often.
    let tree = #"root ::= tree\ntree ::= leaf | \"(\" tree (\",\" tree)* \")\"\nleaf ::= [ab] [ab]? [ab]?"#
    #expect(try await server.complete("tiny", #", "grammar": "\#(tree)""#).status == 200)
  }

  private static let endless =
    #"{"model": "tiny", "prompt": "a", "max_tokens": 3000, "ignore_eos": true, "stream": true}"#

  /// A stream of which the first bytes have come.
  private func begin(_ server: TestServer, _ client: HTTPClient) async throws -> HTTPClientResponse.Body.AsyncIterator {
    var request = HTTPClientRequest(url: server.address + "/v1/completions")
    request.method = .POST
    request.body = .bytes(Data(Self.endless.utf8))
    var body = try await client.execute(request, timeout: .seconds(60)).body.makeAsyncIterator()
    _ = try await body.next()
    return body
  }

  @Test func aClientThatGoesLeavesItsPlace() async throws {
    let server = try await TestServer(TemporaryFolder())
    let client = HTTPClient()
    var stream = try await begin(server, client)
    _ = try await stream.next()
    #expect(try await server.metric("ladder_texts") == 1)
    // One that waits for a whole answer goes too.
    let waiting = Task {
      var request = HTTPClientRequest(url: server.address + "/v1/completions")
      request.method = .POST
      request.body = .bytes(Data(Self.endless.replacing("true}", with: "false}").utf8))
      return try await client.execute(request, timeout: .seconds(60)).status
    }
    #expect(try await server.waits { try await server.metric("ladder_texts") == 2 })
    waiting.cancel()
    try? await client.shutdown()
    #expect(try await server.waits { try await server.metric("ladder_texts") == 0 })
    #expect(try await server.complete().status == 200)
  }

  @Test func aFullQueueRefuses() async throws {
    let server = try await TestServer(TemporaryFolder()) {
      $0.generation.texts = 1
      $0.limits.queue = 1
    }
    let client = HTTPClient()
    let first = try await begin(server, client)
    let second = Task { try await server.complete().status }
    #expect(try await server.waits { try await server.metric("ladder_texts") == 2 })
    let refused = try await server.complete()
    #expect(refused.status == 429 && error(refused) == "rate_limit_exceeded" && refused.headers["retry-after"] != nil)
    withExtendedLifetime(first) {}
    try? await client.shutdown()
    #expect(try await second.value == 200)
  }

  /// Bodies that many connections send at once are bounded together.
  @Test func bodiesThatComeAtOnceAreBounded() async throws {
    let server = try await TestServer(TemporaryFolder()) { $0.limits.bodies = 3000 }
    let client = HTTPClient(), (parts, sender) = AsyncStream<ByteBuffer>.makeStream()
    let slow = Task {
      var request = HTTPClientRequest(url: server.address + "/v1/completions")
      request.method = .POST
      request.body = .stream(parts, length: .unknown)
      return try await client.execute(request, timeout: .seconds(60)).status.code
    }
    let head = #"{"model": "tiny", "prompt": "a", "max_tokens": 1, "user": ""#
    sender.yield(ByteBuffer(string: head + String(repeating: "u", count: 2900)))
    func other() async throws -> Int {
      try await server.complete("tiny", #", "user": "\#(String(repeating: "u", count: 500))""#).status
    }
    #expect(try await server.waits { try await other() == 429 })
    sender.yield(ByteBuffer(string: #""}"#))
    sender.finish()
    #expect(try await slow.value == 200)
    #expect(try await other() == 200)
    try? await client.shutdown()
  }

  @Test func anAnswerThatTakesTooLong() async throws {
    let server = try await TestServer(TemporaryFolder()) { $0.limits.seconds = 0.2 }
    let slow = Self.endless.replacing("true}", with: "false}")
    let answer = try await server.post("/v1/completions", slow)
    #expect(answer.status == 504 && error(answer) == "timeout")
    let stream = try await server.post("/v1/completions", Self.endless)
    #expect(
      stream.status == 200 && TestServer.member("error.code", of: stream.events.last ?? [:]) as? String == "timeout")
  }

  @Test func requestsOnOneConnectionAndMetrics() async throws {
    let server = try await TestServer(TemporaryFolder())
    for _ in 0..<3 { #expect(try await server.complete().status == 200) }
    _ = try await server.complete("who")
    let metrics = try await server.get("/metrics").text
    #expect(
      metrics.contains(#"ladder_requests_total{path="/v1/completions",method="POST",status="200"} 3"#), "\(metrics)")
    #expect(metrics.contains(#"status="404"} 1"#))
    #expect(metrics.contains(#"ladder_generated_tokens_total{model="tiny"}"#))
    #expect(metrics.contains("ladder_first_token_seconds_count"))
  }
}
