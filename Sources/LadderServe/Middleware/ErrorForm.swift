import Hummingbird
import LadderCore
import NIOHTTP1

/// Tells errors in OpenAI's form, and which methods a path takes.
struct ErrorForm<Context: RequestContext>: RouterMiddleware {
  let paths: PathTable

  func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    do { return try await next(request, context) } catch let error as HTTPParserError {
      // No request at all: the connection answers that itself.
      throw error
    } catch {
      var error = APIError(any: error)
      if context.endpointPath == "NotFound", let methods = paths.methods(of: request.uri.path) {
        error = APIError(
          .methodNotAllowed, "\(request.method.rawValue.shown) is none of this path's methods",
          code: "method_not_allowed")
        error.allowed = methods
      }
      if error.status.code >= 500, error.code != "cancelled" {
        context.logger.error("\(request.uri.path.shown): \(error.message)")
      }
      return error.response
    }
  }
}

/// The methods of the paths that are served.
struct PathTable: Sendable {
  private var methods: [[String]: [String]] = [:]

  /// - Parameter path: with `:name` for a part that may be anything.
  mutating func add(_ method: String, _ path: String) {
    methods[Self.parts(path), default: []] += method == "GET" ? ["GET", "HEAD"] : [method]
  }

  /// Nil for a path that is not served.
  func methods(of path: String) -> [String]? {
    let own = Self.parts(path)
    return methods.first { parts, _ in
      parts.count == own.count && zip(parts, own).allSatisfy { $0.hasPrefix(":") || $0 == $1 }
    }?.value
  }

  private static func parts(_ path: String) -> [String] { path.split(separator: "/").map(String.init) }
}
