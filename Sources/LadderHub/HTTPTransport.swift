import AsyncHTTPClient
import Foundation
import LadderCore
import NIOCore
import NIOPosix

/// Requests over HTTP, through the environment's proxy, and again after what passes.
package struct HTTPTransport: Sendable {
  /// What another try may bring: the network, and a server that is busy.
  package struct Passing: Error {
    package let message: String
    /// Seconds that the server asks for.
    package var wait: Double?
    /// Something came before it broke.
    package var hasProgress = false

    package init(_ message: String, wait: Double? = nil) {
      self.message = message
      self.wait = wait
    }
  }

  /// A server's answer whose body is still to be read.
  package struct Answer {
    let response: HTTPClientResponse
    /// Where it came from, behind all redirects.
    package let url: URL

    package var status: Int { Int(response.status.code) }
    package func header(_ name: String) -> String? { response.headers.first(name: name) }
  }

  /// Tries that bring nothing new, before it is given up.
  package var attempts = 5
  /// How long a server may be silent.
  private let clients: Clients
  private let note: @Sendable (String) -> Void

  /// - Parameter note: called with what a user should know of a try that failed.
  package init(note: @escaping @Sendable (String) -> Void, isPatient: Bool = false) {
    self.note = note
    clients = isPatient ? .patient : .usual
  }

  // MARK: - Clients

  /// Redirects are never followed by them: a token goes to nobody else.
  private struct Clients: Sendable {
    let direct: HTTPClient
    let proxied: HTTPClient?

    static let usual = Clients(silence: .seconds(60)), patient = Clients(silence: .minutes(30))
    static let proxy = Proxy()

    private init(silence: TimeAmount) {
      direct = Self.client(nil, silence)
      proxied = Self.proxy.map { Self.client($0.configuration, silence) }
    }

    private static func client(_ proxy: HTTPClient.Configuration.Proxy?, _ silence: TimeAmount) -> HTTPClient {
      var configuration = HTTPClient.Configuration(
        redirectConfiguration: .disallow, timeout: .init(connect: .seconds(15), read: silence))
      configuration.httpVersion = .http1Only
      configuration.proxy = proxy
      // As many as are ever asked at once: what waits for a connection is given up with those that cannot connect.
      configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 64
      return HTTPClient(eventLoopGroup: .singletonMultiThreadedEventLoopGroup, configuration: configuration)
    }

    func client(for url: URL) -> HTTPClient { Self.proxy?.serves(url) == true ? proxied ?? direct : direct }
  }

  /// - Parameter body: posted as JSON; nil gets.
  /// - Throws: `Passing` where nobody answers.
  package func execute(_ url: URL, headers: [String: String], body: Data? = nil) async throws -> Answer {
    var request = HTTPClientRequest(url: url.absoluteString)
    request.headers.add(name: "User-Agent", value: "ladder/0.1")
    for (name, value) in headers { request.headers.add(name: name, value: value) }
    if let body {
      request.method = .POST
      request.headers.add(name: "Content-Type", value: "application/json")
      request.body = .bytes(ByteBuffer(bytes: body))
    }
    do {
      return Answer(response: try await clients.client(for: url).execute(request, deadline: .distantFuture), url: url)
    } catch {
      try Cancellation.check()
      throw Passing("\(Self.origin(url)) cannot be reached: \(Self.reason(error))")
    }
  }

  /// A body that is no larger than `limit`.
  package func body(_ answer: Answer, limit: Int) async throws -> Data {
    var data = Data()
    do {
      for try await part in answer.response.body {
        data.append(contentsOf: part.readableBytesView)
        if data.count > limit {
          throw LadderError(.inputOutput, "\(Self.origin(answer.url)) sends more than can be right")
        }
      }
    } catch let error as LadderError {
      throw error
    } catch {
      try Cancellation.check()
      throw Passing("\(Self.origin(answer.url)): the connection broke (\(Self.reason(error)))")
    }
    return data
  }

  /// Runs `body` until it succeeds or fails for good.
  package func again<Result>(_ what: String, _ body: () async throws -> Result) async throws -> Result {
    var failures = 0
    while true {
      do { return try await body() } catch let passing as Passing {
        try Cancellation.check()
        failures = passing.hasProgress ? 1 : failures + 1
        guard failures < attempts else {
          throw LadderError(
            .inputOutput, "\(passing.message); \(what) was asked for \(attempts) times, try it again later")
        }
        let seconds = min(passing.wait ?? Double(1 << (failures - 1)), 300)
        note("\(passing.message); again in \(Int(seconds.rounded(.up))) s")
        do { try await Task.sleep(for: .seconds(seconds)) } catch { try Cancellation.check() }
      }
    }
  }

  // MARK: - Words

  /// Scheme, host and port.
  package static func origin(_ url: URL) -> String {
    let usual = url.scheme == "https" ? 443 : 80, port = url.port ?? usual
    return "\(url.scheme ?? "")://\(url.host?.lowercased() ?? "")\(port == usual ? "" : ":\(port)")"
  }

  static func reason(_ error: any Error) -> String {
    if let error = error as? NIOConnectionError {
      if let first = error.connectionErrors.first?.error { return reason(first) }
      return "its name is not known; is there a network?"
    }
    if let error = error as? IOError { return String(cString: strerror(error.errnoCode)) }
    switch error as? HTTPClientError {
    case .connectTimeout?, .readTimeout?, .deadlineExceeded?: return "it does not answer"
    case .remoteConnectionClosed?: return "it closed the connection"
    default: return "\(error)".oneLine.shown
    }
  }

  /// Seconds that a busy server asks for: a number, or a date.
  package static func retryAfter(_ answer: Answer) -> Double? {
    guard let text = answer.header("Retry-After") else { return nil }
    if let seconds = Double(text), seconds.isFinite { return max(0, seconds) }
    let format = DateFormatter()
    format.locale = Locale(identifier: "en_US_POSIX")
    format.timeZone = TimeZone(identifier: "GMT")
    format.dateFormat = "EEE, dd MMM yyyy HH:mm:ss zzz"
    return format.date(from: text).map { max(0, $0.timeIntervalSinceNow) }
  }

  /// What passes by itself.
  package static func isPassing(_ status: Int) -> Bool { [408, 425, 429, 500, 502, 503, 504].contains(status) }
}
