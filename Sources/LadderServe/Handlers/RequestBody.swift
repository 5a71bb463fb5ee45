import Foundation
import Hummingbird
import Synchronization

/// What bodies may take that are being read, all together: many connections at once are not many times the limit of one.
final class BodyRoom: Sendable {
  private let most: Int
  private let held = Mutex(0)

  init(most: Int) { self.most = most }

  /// - Throws: `APIError` where there is no room; one body alone always finds some.
  fileprivate func take(_ bytes: Int, beside own: Int) throws {
    try held.withLock { held in
      guard held == own || held + bytes <= most else { throw APIError.tooBusy }
      held += bytes
    }
  }

  fileprivate func give(_ bytes: Int) { held.withLock { $0 -= bytes } }
}

extension Request {
  /// Reads the body, of which no part is read twice.
  /// - Throws: `APIError` for one that is too large or comes too slowly, or where too many come at once.
  mutating func wholeBody(_ limits: ServerSettings.Limits, _ room: BodyRoom) async throws -> Data {
    let tooLarge = APIError(.contentTooLarge, "the body is larger than \(limits.body) bytes", code: "body_too_large")
    if let length = headers[.contentLength].flatMap({ Int($0) }), length > limits.body { throw tooLarge }
    // A client that sends a byte now and then is never idle.
    let deadline = ContinuousClock.now + .seconds(limits.idleSeconds)
    var collected = Data()
    defer { room.give(collected.count) }
    for try await part in body {
      if collected.count + part.readableBytes > limits.body { throw tooLarge }
      if ContinuousClock.now > deadline { throw APIError(.requestTimeout, "the body came too slowly") }
      try room.take(part.readableBytes, beside: collected.count)
      collected.append(contentsOf: part.readableBytesView)
    }
    // Behind it the connection's input stays, which tells when the client goes.
    body = RequestBody(buffer: ByteBuffer())
    return collected
  }
}
