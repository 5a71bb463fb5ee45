import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderInference
import TestModels
import Testing

@testable import LadderServe

/// Chats and completions, whole and streamed.
@Suite(.serialized) struct AnswerTests {
  let server: TestServer

  init() async throws { server = try await TestServer(TemporaryFolder()) }

  private func generated(_ prompt: String, tokens: Int = 6) throws -> Generation {
    var options = GenerationOptions()
    options.maxTokens = tokens
    return try LadderModel(server.backbone).generate(prompt, options: options)
  }

  @Test func completionsSayWhatTheLibrarySays() async throws {
    let expected = try generated("text 1"), answer = try await server.complete()
    #expect(answer.status == 200 && answer["object"] as? String == "text_completion")
    #expect(answer["choices.0.text"] as? String == expected.text)
    #expect(answer["choices.0.finish_reason"] as? String == expected.finishReason)
    #expect(answer["usage.completion_tokens"] as? Int == expected.tokens)
    #expect(answer["usage.prompt_tokens"] as? Int == expected.promptTokens)
    let streamed = try await server.complete("tiny", #", "stream": true, "stream_options": {"include_usage": true}"#)
    #expect(streamed.headers["content-type"]?.hasPrefix("text/event-stream") ?? false)
    #expect(streamed.text.hasSuffix("data: [DONE]\n\n"))
    let pieces = streamed.events.compactMap { TestServer.member("choices.0.text", of: $0) as? String }
    #expect(pieces.joined() == expected.text)
    #expect(TestServer.member("usage.completion_tokens", of: streamed.events.last ?? [:]) as? Int == expected.tokens)
    let tokens = server.backbone.tokenizer.tokens("text 1", beginning: true)
    let same = try await server.post(
      "/v1/completions", #"{"model": "tiny", "prompt": \#(tokens), "max_tokens": 6, "temperature": 0, "echo": true}"#)
    #expect((same["choices.0.text"] as? String)?.hasSuffix(expected.text) ?? false)
    let several = try await server.post(
      "/v1/completions", #"{"model": "tiny", "prompt": ["a", "text 1"], "n": 2, "max_tokens": 6, "temperature": 0}"#)
    #expect(several["choices.2.text"] as? String == expected.text && several["choices.3.index"] as? Int == 3)
  }

  @Test func chatsGoThroughTheTemplate() async throws {
    let expected = try generated("<user>hello</><assistant>"), answer = try await server.chat()
    #expect(answer["choices.0.message.content"] as? String == expected.text)
    #expect(answer["choices.0.message.role"] as? String == "assistant")
    let streamed = try await server.chat("tiny", #", "stream": true, "n": 2, "logprobs": true, "top_logprobs": 2"#)
    for choice in 0..<2 {
      let own = streamed.events.filter { TestServer.member("choices.0.index", of: $0) as? Int == choice }
      #expect(TestServer.member("choices.0.delta.role", of: own[0]) as? String == "assistant")
      let pieces = own.compactMap { TestServer.member("choices.0.delta.content", of: $0) as? String }
      #expect(pieces.joined() == expected.text)
      let tokens = own.compactMap { TestServer.member("choices.0.logprobs.content", of: $0) as? [Any] }.flatMap(\.self)
      #expect(tokens.count == expected.tokens)
      for token in tokens {
        // The likeliest token is the one that was taken.
        #expect(
          TestServer.member("top_logprobs.0.logprob", of: token) as? Double == TestServer.member("logprob", of: token)
            as? Double)
      }
    }
  }

  @Test func stopsSeedsAndBiases() async throws {
    let whole = try generated("text 1", tokens: 12).text
    guard whole.count > 3 else { return }
    let stop = String(whole.dropFirst(2).first ?? "x")
    let quoted = String(decoding: try JSONEncoder().encode(stop), as: UTF8.self)
    let stopped = try await server.complete("tiny", #", "stop": [\#(quoted)]"#)
    let before = whole.components(separatedBy: stop)[0]
    #expect((stopped["choices.0.text"] as? String).map { before.hasPrefix($0) } ?? false)
    func drawn(_ seed: Int) async throws -> String? {
      try await server.post(
        "/v1/completions",
        #"{"model": "tiny", "prompt": "text 1", "max_tokens": 12, "temperature": 2, "seed": \#(seed)}"#)[
          "choices.0.text"]
        as? String
    }
    #expect(try await drawn(3) == drawn(3))
    let seeds = try await [drawn(1), drawn(2), drawn(4)]
    #expect(Set(seeds).count > 1)
    let token = try #require(server.backbone.tokenizer.tokens("z").last)
    let biased = try await server.complete("tiny", #", "logit_bias": {"\#(token)": 100}"#)
    #expect((biased["choices.0.text"] as? String)?.contains("z") ?? false)
  }

  // MARK: - Tools and schemas

  private static let tools = """
    , "max_tokens": 200, "tools": [
      {"type": "function", "function": {"name": "light", "parameters": {
        "type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": false}}},
      {"type": "function", "function": {"name": "door", "parameters": {
        "type": "object", "properties": {"open": {"enum": ["yes", "no"]}}, "required": ["open"]}}}]
    """

  private func chat(_ more: String) async throws -> TestServer.Answer {
    try await server.post(
      "/v1/chat/completions",
      #"{"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "temperature": 0\#(more)}"#)
  }

  private func arguments(_ text: Any?) -> [String: Any]? {
    (text as? String).flatMap { (try? JSONSerialization.jsonObject(with: Data($0.utf8))) as? [String: Any] }
  }

  @Test func toolsAreCalled() async throws {
    let named = try await chat(Self.tools + #", "tool_choice": {"type": "function", "function": {"name": "light"}}"#)
    #expect(named.status == 200, "\(named.text)")
    #expect(named["choices.0.finish_reason"] as? String == "tool_calls")
    #expect(named["choices.0.message.content"] == nil)
    #expect(named["choices.0.message.tool_calls.0.function.name"] as? String == "light")
    #expect((named["choices.0.message.tool_calls.0.id"] as? String)?.isEmpty == false)
    #expect(arguments(named["choices.0.message.tool_calls.0.function.arguments"])?["on"] is Bool)
    let required = try await chat(Self.tools + #", "tool_choice": "required", "parallel_tool_calls": false"#)
    #expect(["light", "door"].contains(required["choices.0.message.tool_calls.0.function.name"] as? String))
    let streamed = try await chat(
      Self.tools + #", "tool_choice": "required", "parallel_tool_calls": false, "stream": true"#)
    let calls = streamed.events.compactMap { TestServer.member("choices.0.delta.tool_calls.0", of: $0) }
    let name = calls.compactMap { TestServer.member("function.name", of: $0) as? String }.joined()
    let parts = calls.compactMap { TestServer.member("function.arguments", of: $0) as? String }.joined()
    #expect(name == required["choices.0.message.tool_calls.0.function.name"] as? String)
    #expect(parts == required["choices.0.message.tool_calls.0.function.arguments"] as? String)
    #expect(calls.allSatisfy { TestServer.member("index", of: $0) as? Int == 0 })
    let none = try await chat(Self.tools + #", "tool_choice": "none", "max_tokens": 6"#)
    #expect(none.status == 200 && none["choices.0.message.tool_calls"] == nil)
    let wrong = try await chat(Self.tools + #", "tool_choice": {"type": "function", "function": {"name": "roof"}}"#)
    #expect(wrong.status == 400)
  }

  @Test func anAnswerFollowsItsSchema() async throws {
    let schema = """
      , "max_tokens": 200, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {
        "type": "object", "properties": {"mood": {"enum": ["good", "bad"]}, "n": {"type": "integer", "maximum": 9, "minimum": 0}},
        "required": ["mood", "n"], "additionalProperties": false}}}
      """
    for more in ["", #", "stream": true"#] {
      let answer = try await chat(schema + more)
      let text =
        more.isEmpty
        ? answer["choices.0.message.content"] as? String
        : answer.events.compactMap { TestServer.member("choices.0.delta.content", of: $0) as? String }.joined()
      let object = arguments(text)
      #expect(["good", "bad"].contains(object?["mood"] as? String), "\(answer.text)")
      #expect((object?["n"] as? Int).map { (0...9).contains($0) } ?? false)
    }
    let broken = try await chat(
      #", "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "what"}}}"#)
    #expect(broken.status == 400)
    let grammar = try await server.complete("tiny", #", "grammar": "root ::= \"yes\" | \"no\"""#)
    #expect(["yes", "no"].contains(grammar["choices.0.text"] as? String), "\(grammar.text)")
    #expect(try await server.complete("tiny", #", "grammar": "root ::= ("}"#).status == 400)
  }

  // MARK: - Embeddings

  @Test func embeddingsWhereTheModelGivesThem() async throws {
    let server = try await TestServer(TemporaryFolder(), pooling: 3)
    let tokens = server.backbone.tokenizer.tokens("a few words", beginning: true)
    func embed(_ more: String = "") async throws -> TestServer.Answer {
      try await server.post("/v1/embeddings", #"{"model": "tiny", "input": ["a few words", "b"]\#(more)}"#)
    }
    let answer = try await embed()
    let vector = try #require(answer["data.0.embedding"] as? [Double], "\(answer.text)")
    #expect(vector.count == server.backbone.width && abs(vector.reduce(0) { $0 + $1 * $1 } - 1) < 1e-4)
    let same = try await server.post("/v1/embeddings", #"{"model": "tiny", "input": [\#(tokens)]}"#)
    #expect(same["data.0.embedding"] as? [Double] == vector)
    let packed = try await embed(#", "encoding_format": "base64""#)
    let bytes = try #require((packed["data.0.embedding"] as? String).flatMap { Data(base64Encoded: $0) })
    let first = bytes.withUnsafeBytes { Float(bitPattern: UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self))) }
    #expect(abs(Double(first) - vector[0]) < 1e-6 && bytes.count == 4 * vector.count)
    #expect(try await server.complete().status == 200)
    #expect(try await embed(#", "dimensions": 8"#).status == 400)
  }
}
