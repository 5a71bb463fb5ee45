import Foundation
import Hummingbird

extension Request {
  /// Reads the body, of which no part is read twice.
  /// - Parameter bodies: counts the bytes of all that are being read: many connections at once are not many times the
  ///   limit of one.
  /// - Throws: `APIError` for one that is too large or comes too slowly, or where too many come at once.
  mutating func wholeBody(_ limits: ServerSettings.Limits, _ bodies: Admission) async throws -> Data {
    let tooLarge = APIError(.contentTooLarge, "the body is larger than \(limits.body) bytes", code: "body_too_large")
    if let length = headers[.contentLength].flatMap({ Int($0) }), length > limits.body { throw tooLarge }
    // A client that sends a byte now and then is never idle.
    let deadline = ContinuousClock.now + .seconds(limits.idleSeconds)
    let place = try bodies.enter(0)
    var collected = Data()
    for try await part in body {
      if collected.count + part.readableBytes > limits.body { throw tooLarge }
      if ContinuousClock.now > deadline { throw APIError(.requestTimeout, "the body came too slowly") }
      try place.take(part.readableBytes)
      collected.append(contentsOf: part.readableBytesView)
    }
    // Behind it the connection's input stays, which tells when the client goes.
    body = RequestBody(buffer: ByteBuffer())
    return collected
  }
}
