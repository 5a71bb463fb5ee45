import Foundation
import Hummingbird

extension Request {
  /// Reads the body, of which no part is read twice.
  /// - Throws: `APIError` for one that is too large or comes too slowly.
  mutating func wholeBody(_ limits: ServerSettings.Limits) async throws -> Data {
    let tooLarge = APIError(.contentTooLarge, "the body is larger than \(limits.body) bytes", code: "body_too_large")
    if let length = headers[.contentLength].flatMap({ Int($0) }), length > limits.body { throw tooLarge }
    let body = body, most = limits.body, seconds = limits.idleSeconds
    // A client that sends a byte now and then is never idle.
    let deadline = ContinuousClock.now + .seconds(seconds)
    var collected = ByteBuffer()
    for try await part in body {
      if collected.readableBytes + part.readableBytes > most { throw tooLarge }
      if ContinuousClock.now > deadline { throw APIError(.requestTimeout, "the body came too slowly") }
      collected.writeImmutableBuffer(part)
    }
    // Behind it the connection's input stays, which tells when the client goes.
    self.body = RequestBody(buffer: collected)
    return Data(collected.readableBytesView)
  }
}
