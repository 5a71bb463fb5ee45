import Hummingbird
import LadderCore

/// Keeps other sites' pages away where the server listens for this machine alone: a page elsewhere may name a host of its
/// own for this address, or send what needs no leave.
struct HostCheck<Context: RequestContext>: RouterMiddleware {
  /// Names under which requests may come; nil is any.
  private let names: Set<String>?
  private let origin: String?
  /// Names of this server's own pages, whatever a proxy makes of the host.
  private let hosts: Set<String>

  init(_ settings: ServerSettings) {
    let own: Set = ["127.0.0.1", "localhost", "::1"]
    hosts = Set(settings.hosts.map { $0.lowercased() })
    names = own.contains(settings.host) ? own.union(hosts) : nil
    origin = settings.origin
  }

  func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    let host = request.head.authority ?? ""
    if let names, !names.contains(Self.name(of: host)) {
      throw APIError(
        .forbidden, "\(host.shown) is none of this server's names", kind: "permission_error", code: "unknown_host")
    }
    if let asking = request.headers[.origin], request.method != .get, request.method != .head, origin != "*",
      asking != origin, let page = asking.components(separatedBy: "://").last, page != host,
      !hosts.contains(Self.name(of: page))
    {
      throw APIError(
        .forbidden, "pages of \(asking.shown) may not ask here", kind: "permission_error", code: "unknown_origin")
    }
    return try await next(request, context)
  }

  /// Without the port.
  private static func name(of host: String) -> String {
    if host.hasPrefix("[") { return String(host.dropFirst().prefix { $0 != "]" }).lowercased() }
    return String(host.prefix { $0 != ":" }).lowercased()
  }
}
