import Foundation
import Hummingbird
import LadderCore
import NIOCore

/// Answers as server-sent events.
enum EventStream {
  /// - Parameters:
  ///   - seconds: after which the connection is closed, whether its client reads or not.
  ///   - place: held until the stream has ended.
  static func response(
    _ request: Request, _ channel: any Channel, seconds: Double, model: String, _ metrics: GenerationMetrics,
    _ place: Admission.Place,
    _ begin: @escaping @Sendable () -> Choices, _ translator: @escaping @Sendable () -> some AnswerTranslator
  ) -> Response {
    let headers: HTTPFields = [
      .contentType: "text/event-stream; charset=utf-8", .cacheControl: "no-cache", .connection: "close",
    ]
    return Response(
      status: .ok, headers: headers,
      body: .init { writer in
        let choices = begin()
        let limit = Task {
          try await Task.sleep(for: .seconds(seconds + 5))
          try await channel.close()
        }
        defer {
          limit.cancel()
          withExtendedLifetime(place) { choices.cancel() }
        }
        try await request.body.consumeWithInboundCloseHandler { _ in
          var translator = translator(), watch = metrics.watch(model)
          do {
            try await writer.write(lines(try translator.beginning()))
            for try await (choice, event) in choices.events {
              watch.take(event)
              let objects = try translator.take(event, choice: choice)
              if !objects.isEmpty { try await writer.write(lines(objects)) }
            }
            // Given up: what is not whole does not end as if it were.
            guard translator.generations.count == choices.count else { throw CancellationError() }
            try await writer.write(lines(try translator.ending() + [Data("[DONE]".utf8)]))
          } catch let error where !(error is CancellationError) {
            // The status has been told: what went wrong comes as an event.
            try await writer.write(lines([APIError(any: error).json]))
          }
        } onInboundClosed: {
          choices.cancel()
        }
        try await writer.finish(nil)
      })
  }

  private static func lines(_ objects: [Data]) -> ByteBuffer {
    var buffer = ByteBuffer()
    for object in objects {
      buffer.writeString("data: ")
      buffer.writeBytes(object)
      buffer.writeString("\n\n")
    }
    return buffer
  }
}
