import Foundation
import LadderCore

/// Requests to the hub: with the token where it belongs, and through redirects.
struct HubClient: Sendable {
  typealias Answer = HTTPTransport.Answer
  typealias Passing = HTTPTransport.Passing
  typealias Report = @Sendable (HubEvent) -> Void

  /// An answer that the server says is too large to give; less at a time may do.
  struct TooLarge: Error {}

  let environment: HubEnvironment
  let report: Report
  private let transport: HTTPTransport

  init(environment: HubEnvironment, report: @escaping Report) {
    self.environment = environment
    self.report = report
    transport = HTTPTransport(note: { report(.note($0)) })
  }

  /// - Parameter what: what is asked for, in an error's words.
  /// - Returns: an answer of status 200 or 206, or 416 to a request for a range.
  /// - Throws: `missing` for 401, 403 and 404; `inputOutput` for others; `Passing` for what another try may bring.
  func get(_ address: URL, what: String, headers: [String: String] = [:]) async throws -> Answer {
    var url = address
    for _ in 0..<10 {
      var headers = headers
      if let token = environment.token, isHub(url) { headers["Authorization"] = "Bearer \(token)" }
      let answer = try await transport.execute(url, headers: headers)
      switch answer.status {
      case 200, 206: return answer
      case 416 where headers["Range"] != nil: return answer
      case 301, 302, 303, 307, 308: url = try redirect(answer, what)
      default: throw await failure(answer, what)
      }
    }
    throw LadderError(.inputOutput, "\(HTTPTransport.origin(address)) redirects \(what) again and again")
  }

  private func redirect(_ answer: Answer, _ what: String) throws -> URL {
    let location = answer.header("Location") ?? ""
    guard let next = URL(string: location, relativeTo: answer.url)?.absoluteURL,
      ["http", "https"].contains(next.scheme), next.host != nil
    else {
      throw LadderError(
        .inputOutput, "\(HTTPTransport.origin(answer.url)) redirects \(what) to no address: \(location.shown)")
    }
    return next
  }

  /// Whether the token may be sent there: to the hub itself and to its server for data sets.
  private func isHub(_ url: URL) -> Bool {
    [environment.endpoint, environment.datasetsServer].contains {
      URL(string: $0).map(HTTPTransport.origin) == HTTPTransport.origin(url)
    }
  }

  /// Runs `body` again after what passes.
  func again<Result>(_ what: String, _ body: () async throws -> Result) async throws -> Result {
    try await transport.again(what, body)
  }

  /// An answer's JSON, and the address of what follows it where it is one page of several.
  func json(_ url: URL, what: String) async throws -> (data: Data, next: URL?, answer: Answer) {
    try await again(what) {
      let answer = try await get(url, what: what, headers: ["Accept": "application/json"])
      return (try await transport.body(answer, limit: 1 << 28), next(answer), answer)
    }
  }

  /// `Link: <…>; rel="next"`, where it stays with the same server.
  private func next(_ answer: Answer) -> URL? {
    for link in (answer.header("Link") ?? "").split(separator: ",") where link.contains("rel=\"next\"") {
      guard let start = link.firstIndex(of: "<"), let end = link.firstIndex(of: ">"), start < end else { continue }
      let url = URL(string: String(link[link.index(after: start)..<end]), relativeTo: answer.url)?.absoluteURL
      if let url, HTTPTransport.origin(url) == HTTPTransport.origin(answer.url) { return url }
    }
    return nil
  }

  /// What an answer that brings nothing means.
  private func failure(_ answer: Answer, _ what: String) async -> any Error {
    if answer.header("X-Error-Code") == "TooBigContentError" { return TooLarge() }
    let said = await serverWords(answer), words = said.map { " (\($0))" } ?? ""
    let host = HTTPTransport.origin(answer.url)
    switch answer.status {
    case 401, 403:
      let advice =
        environment.token == nil
        ? "set HF_TOKEN, or log in with the hub's own program" : "the token that is set has no access to it"
      return LadderError(.missing, "\(host) has no \(what), or it is private or gated: \(advice)\(words)")
    case 404, 410: return LadderError(.missing, "\(host) has no \(what)\(words)")
    case let status where HTTPTransport.isPassing(status):
      return Passing("\(host) answers \(status)\(words)", wait: HTTPTransport.retryAfter(answer))
    default: return LadderError(.inputOutput, "\(host) answers \(answer.status) to \(what)\(words)")
    }
  }

  private func serverWords(_ answer: Answer) async -> String? {
    if let header = answer.header("X-Error-Message"), !header.isEmpty { return header.oneLine.shown }
    guard let data = try? await transport.body(answer, limit: 1 << 16),
      let object = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
    else { return nil }
    return (object["error"] as? String).map { $0.oneLine.shown }
  }
}
