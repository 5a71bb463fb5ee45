import Foundation
import Hummingbird
import LadderCore

/// What went wrong with a request, in OpenAI's form: {"error": {"message", "type", "param", "code"}}.
struct APIError: Error {
  let status: HTTPResponse.Status
  let message: String
  var kind = "invalid_request_error"
  /// The field that it is about.
  var field: String?
  var code: String?
  /// Seconds after which to try again.
  var retryAfter: Int?
  /// Whether the connection can carry no other request.
  var closes = false
  /// Methods that a path takes.
  var allowed: [String] = []

  init(
    _ status: HTTPResponse.Status, _ message: String, kind: String = "invalid_request_error", field: String? = nil,
    code: String? = nil, retryAfter: Int? = nil
  ) {
    self.status = status
    self.message = message
    self.kind = kind
    self.field = field
    self.code = code
    self.retryAfter = retryAfter
  }

  /// A value that cannot be taken.
  static func bad(_ field: String?, _ message: String, code: String? = nil) -> APIError {
    APIError(.badRequest, message, field: field, code: code)
  }

  static func unknownModel(_ name: String) -> APIError {
    APIError(
      .notFound, "the model \(name.shown) does not exist; GET /v1/models lists those that do", field: "model",
      code: "model_not_found")
  }

  static let tooBusy = APIError(
    .tooManyRequests, "the queue is full; try again later", kind: "rate_limit_error", code: "rate_limit_exceeded",
    retryAfter: 1)

  static func overTime(_ seconds: Double) -> APIError {
    APIError(
      .gatewayTimeout, "the answer took longer than \(Int(seconds)) seconds", kind: "timeout_error", code: "timeout")
  }

  /// - Parameter error: any that a handler threw.
  init(any error: any Error) {
    switch error {
    case let error as APIError: self = error
    case let error as HTTPError:
      let kind = error.status.code >= 500 ? "server_error" : "invalid_request_error"
      let text = error.status == .notFound ? "there is nothing at this path" : error.body ?? error.status.reasonPhrase
      self.init(error.status, text, kind: kind, code: error.status == .notFound ? "not_found" : nil)
    case is CancellationError:
      self.init(.serviceUnavailable, "the request was given up", kind: "server_error", code: "cancelled")
    default: self.init(LadderError(any: error))
    }
  }

  private init(_ error: LadderError) {
    switch error.kind {
    case .usage, .data: self.init(.badRequest, error.message)
    case .missing: self.init(.notFound, error.message, code: "not_found")
    case .interrupted: self.init(.serviceUnavailable, error.message, kind: "server_error")
    case .engine, .inputOutput: self.init(.internalServerError, error.message, kind: "server_error")
    }
  }

  private struct Form: Encodable {
    struct Content: Encodable {
      let message, type: String
      @OrNull var param: String?
      @OrNull var code: String?
    }
    let error: Content
  }

  var json: Data {
    (try? JSON.data(Form(error: .init(message: message, type: kind, param: field, code: code)))) ?? Data()
  }

  var response: Response {
    var response = JSON.response(json, status: status)
    if let retryAfter { response.headers[.retryAfter] = String(retryAfter) }
    if !allowed.isEmpty { response.headers[.allow] = allowed.joined(separator: ", ") }
    if closes { response.headers[.connection] = "close" }
    if status == .unauthorized { response.headers[.wwwAuthenticate] = "Bearer" }
    return response
  }
}
