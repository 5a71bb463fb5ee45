import Foundation
import Hummingbird
import LadderCore

/// Lets requests through that carry the key: `Authorization: Bearer KEY`.
struct KeyCheck<Context: RequestContext>: RouterMiddleware {
  /// Of the key, so that comparing tells nothing by the time that it takes.
  private let digest: String?

  init(_ key: String?) { digest = key.map(Self.digest) }

  func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    guard let digest, !Self.isOpen(request.uri.path) else { return try await next(request, context) }
    let words = (request.headers[.authorization] ?? "").split(separator: " ", maxSplits: 1)
    guard words.count == 2, words[0].lowercased() == "bearer", Self.digest(String(words[1])) == digest else {
      throw APIError(
        .unauthorized, "the key is missing or wrong; pass it as Authorization: Bearer KEY",
        kind: "authentication_error", code: "invalid_api_key")
    }
    return try await next(request, context)
  }

  private static func digest(_ key: String) -> String {
    var hash = SHA256()
    hash.update(key.utf8)
    return hash.hexadecimal()
  }

  /// The page asks for the key itself.
  private static func isOpen(_ path: String) -> Bool {
    path == "/" || path.hasPrefix("/page/") || path == "/health" || path == "/openapi.json" || path == "/favicon.ico"
  }
}
