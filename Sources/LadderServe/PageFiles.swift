import Foundation
import HTTPTypes
import Hummingbird

/// The page's files, which are part of the program.
enum PageFiles {
  /// Nothing but what this server gives: no script in the page itself, no other site.
  private static let policy =
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    + "frame-ancestors 'none'"

  static func response(_ name: String, ifNoneMatch: String?) throws -> Response {
    guard let (bytes, kind) = file(name) else { throw HTTPError(.notFound) }
    let tag = "\"\(version)\""
    var headers: HTTPFields = [
      .contentType: kind, .cacheControl: "no-cache", .eTag: tag, .contentSecurityPolicy: policy,
      .xContentTypeOptions: "nosniff",
    ]
    if let own = HTTPField.Name("Referrer-Policy") { headers[own] = "no-referrer" }
    if ifNoneMatch == tag { return Response(status: .notModified, headers: headers) }
    headers[.contentLength] = String(bytes.count)
    return Response(status: .ok, headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
  }

  /// Changes with the program.
  private static let version = String(UInt64.random(in: 0...UInt64.max), radix: 36)

  private static func file(_ name: String) -> (bytes: [UInt8], kind: String)? {
    let script = "text/javascript; charset=utf-8"
    return switch name {
    case "index.html": (PackageResources.index_html, "text/html; charset=utf-8")
    case "page.css": (PackageResources.page_css, "text/css; charset=utf-8")
    case "answer.js": (PackageResources.answer_js, script)
    case "api.js": (PackageResources.api_js, script)
    case "app.js": (PackageResources.app_js, script)
    case "chart.js": (PackageResources.chart_js, script)
    case "chat.js": (PackageResources.chat_js, script)
    case "data.js": (PackageResources.data_js, script)
    case "dom.js": (PackageResources.dom_js, script)
    case "manifest.js": (PackageResources.manifest_js, script)
    case "marks.js": (PackageResources.marks_js, script)
    case "metrics.js": (PackageResources.metrics_js, script)
    case "runs.js": (PackageResources.runs_js, script)
    case "shown.js": (PackageResources.shown_js, script)
    case "tokens.js": (PackageResources.tokens_js, script)
    default: nil
    }
  }

  static let openAPI = PackageResources.openapi_json
}
