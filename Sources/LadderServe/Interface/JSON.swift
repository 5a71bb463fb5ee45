import Foundation
import Hummingbird

/// A value that stands as null where there is none, and is not left out.
@propertyWrapper
struct OrNull<Value: Encodable>: Encodable {
  var wrappedValue: Value?

  // The compiler's own has a default, by which properties would be left out of their types' initialisers.
  init(wrappedValue value: Value?) { wrappedValue = value }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(wrappedValue)
  }
}

extension OrNull: Sendable where Value: Sendable {}

/// JSON as the server writes it.
enum JSON {
  static func data(_ value: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.withoutEscapingSlashes, .sortedKeys]
    return try encoder.encode(value)
  }

  static func response(_ value: some Encodable) throws -> Response { response(try data(value)) }

  static func response(_ data: Data, status: HTTPResponse.Status = .ok) -> Response {
    Response(
      status: status, headers: [.contentType: "application/json", .contentLength: String(data.count)],
      body: .init(byteBuffer: ByteBuffer(bytes: data)))
  }

  /// A probability's logarithm: JSON has no infinity.
  static func logarithm(_ value: Double?) -> Double { value.map { max($0, -9999) } ?? 0 }
}
