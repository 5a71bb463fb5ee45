import Foundation
import LadderCore
import LadderData
import LadderHub
import LadderInference

/// A model behind an OpenAI-compatible server: llama.cpp's, vLLM's, or any other.
public struct ServerTeacher: Teacher {
  private let base: URL
  private let model: String?
  private let key: String?
  private let transport: HTTPTransport

  /// - Parameters:
  ///   - address: the server's; `/v1` is added where there is no path.
  ///   - model: by the server's name for it.
  ///   - key: sent to this server alone.
  ///   - note: called with what a user should know of a try that failed.
  /// - Throws: `usage` for what is no address, and for a key that can stand in no header.
  public init(
    _ address: String, model: String? = nil, key: String? = nil, note: @escaping @Sendable (String) -> Void = { _ in }
  ) throws(LadderError) {
    let trimmed = address.hasSuffix("/") ? String(address.dropLast()) : address
    guard let url = URL(string: trimmed), ["http", "https"].contains(url.scheme), url.host?.isEmpty == false,
      url.query == nil
    else { throw LadderError(.usage, "`server` \(address.shown): write an address like http://localhost:8080/v1") }
    if let key, key.isEmpty || !key.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) {
      throw LadderError(.usage, "the server's key holds characters that no key has, or none")
    }
    base = url.path.isEmpty ? url.appendingPathComponent("v1") : url
    self.model = model
    self.key = key
    transport = HTTPTransport(note: note, isPatient: true)
  }

  /// Its address, and the model's name there.
  public var name: String { base.absoluteString + (model.map { " " + $0 } ?? "") }

  /// Asks for one answer, and again where the server is busy or cannot be reached.
  public func answer(_ prompt: DistilPrompt, options: GenerationOptions) async throws -> TeacherAnswer {
    let (path, body) = try request(prompt, options)
    var headers = ["Accept": "application/json"]
    if let key { headers["Authorization"] = "Bearer \(key)" }
    let url = base.appendingPathComponent(path)
    let data = try await transport.again("an answer") {
      let answer = try await transport.execute(url, headers: headers, body: body)
      let data = try await transport.body(answer, limit: 1 << 28)
      guard answer.status == 200 else { throw failure(answer, data, url) }
      return data
    }
    return try Self.answer(data, from: url)
  }

  // MARK: - What is asked

  private func request(_ prompt: DistilPrompt, _ options: GenerationOptions) throws -> (String, Data) {
    let sampling = options.sampling
    var parts = ["\"max_tokens\":\(options.maxTokens)", "\"temperature\":\(sampling.temperature)", "\"stream\":false"]
    if let model { parts.append("\"model\":\(try DistilPrompt.json(model))") }
    if sampling.temperature > 0 { parts.append("\"seed\":\(sampling.seed)") }
    if sampling.topP < 1 { parts.append("\"top_p\":\(sampling.topP)") }
    // Not every server knows these.
    if sampling.topK > 0 { parts.append("\"top_k\":\(sampling.topK)") }
    if sampling.minP > 0 { parts.append("\"min_p\":\(sampling.minP)") }
    if sampling.repeatPenalty != 1 { parts.append("\"repeat_penalty\":\(sampling.repeatPenalty)") }
    if let grammar = sampling.grammar { parts.append("\"grammar\":\(try DistilPrompt.json(grammar))") }
    if !options.stop.isEmpty {
      parts.append("\"stop\":[\(try options.stop.map(DistilPrompt.json).joined(separator: ","))]")
    }
    let path: String
    switch prompt.form {
    case .text(let text):
      path = "completions"
      parts.append("\"prompt\":\(try DistilPrompt.json(text))")
    case .messages(let turns, _):
      path = "chat/completions"
      parts.append("\"messages\":[\(turns.joined(separator: ","))]")
      if let tools = prompt.tools { parts.append("\"tools\":\(tools)") }
      if let options = prompt.templateOptions { parts.append("\"chat_template_kwargs\":\(options)") }
    }
    return (path, Data("{\(parts.joined(separator: ","))}".utf8))
  }

  // MARK: - What comes

  private struct Reply: Decodable {
    struct Choice: Decodable {
      struct Message: Decodable {
        let content, reasoning: String?

        enum CodingKeys: String, CodingKey {
          case content
          case reasoning = "reasoning_content"
        }
      }
      let text: String?
      let message: Message?
      let finishReason: String?

      enum CodingKeys: String, CodingKey {
        case text, message
        case finishReason = "finish_reason"
      }
    }
    let choices: [Choice]
  }

  private static func answer(_ data: Data, from url: URL) throws -> TeacherAnswer {
    guard let choice = try? JSONDecoder().decode(Reply.self, from: data).choices.first else {
      throw LadderError(.data, "\(url.absoluteString) does not answer as OpenAI's interface does")
    }
    let calls = try Self.calls(data)
    let saysOther = !calls.isEmpty || choice.message?.reasoning != nil
    guard let text = choice.text ?? choice.message?.content ?? (saysOther ? "" : nil) else {
      throw Refusal("the answer holds no text")
    }
    return TeacherAnswer(
      text: text, reasoning: choice.message?.reasoning, calls: calls, isWhole: choice.finishReason != "length")
  }

  /// The calls of the first choice. Servers write arguments as a text, as they should, or as they are.
  private static func calls(_ data: Data) throws -> [ToolCall] {
    let message = try JSONText(data).object["choices"]?.elements.first?.object["message"]
    return try (message?.object["tool_calls"]?.elements ?? []).map { call in
      let members = call.object, function = members["function"]?.object ?? [:]
      guard let name = function["name"]?.string else { throw Refusal("the answer calls a tool without a name") }
      let arguments = function["arguments"].flatMap { value in
        value.isNull ? nil : value.string ?? String(decoding: value.compact, as: UTF8.self)
      }
      let id = members["id"]?.string
      return ToolCall(id: id?.isEmpty == true ? nil : id, name: name, arguments: arguments ?? "{}")
    }
  }

  private func failure(_ answer: HTTPTransport.Answer, _ data: Data, _ url: URL) -> any Error {
    let object = (try? JSONSerialization.jsonObject(with: data)) as? [String: Any]
    let said = (object?["error"] as? [String: Any])?["message"] as? String ?? object?["error"] as? String
    let words = said.map { ": " + $0.oneLine.shown } ?? "", server = HTTPTransport.origin(url)
    switch answer.status {
    case 401, 403: return LadderError(.usage, "\(server) refuses the key, or wants one\(words); set `apiKey`")
    case 400, 413, 422: return Refusal("\(server) answers \(answer.status)\(words)")
    case 404, 405:
      return LadderError(
        .missing, "\(url.absoluteString) is not there\(words); name the address and the model that are")
    case let status where HTTPTransport.isPassing(status):
      return HTTPTransport.Passing("\(server) answers \(status)\(words)", wait: HTTPTransport.retryAfter(answer))
    default: return LadderError(.inputOutput, "\(server) answers \(answer.status)\(words)")
    }
  }
}
