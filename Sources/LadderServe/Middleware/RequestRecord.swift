import Foundation
import Hummingbird
import LadderCore
import Metrics

/// Counts and logs requests once their responses have been written.
struct RequestRecord<Context: RequestContext>: RouterMiddleware {
  let factory: any MetricsFactory

  func handle(
    _ request: Request, context: Context, next: (Request, Context) async throws -> Response
  ) async throws -> Response {
    let began = ContinuousClock.now
    var response = try await next(request, context)
    let status = Int(response.status.code), method = request.method, path = request.uri.path, factory = factory
    let endpoint = context.endpointPath ?? "NotFound", logger = context.logger
    let record: @Sendable () -> Void = {
      let dimensions = [("path", endpoint), ("method", method.rawValue)], time = ContinuousClock.now - began
      Counter(
        label: "ladder_requests_total", dimensions: dimensions + [("status", String(status))], factory: factory
      ).increment()
      Metrics.Timer(label: "ladder_request_seconds", dimensions: dimensions, factory: factory).record(duration: time)
      logger.info("\(method.rawValue.shown) \(path.shown) \(status) \(Int(time.seconds * 1000)) ms")
    }
    let body = response.body
    response.body = ResponseBody(contentLength: body.contentLength) { writer in
      defer { record() }
      try await body.write(writer)
    }
    return response
  }
}
