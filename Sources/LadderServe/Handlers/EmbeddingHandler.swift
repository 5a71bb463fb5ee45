import Foundation
import Hummingbird
import LadderBackbone
import LadderCore
import LadderInference

/// Gives the vectors of texts, where the model has them.
struct EmbeddingHandler: Sendable {
  let engine: GenerationEngine
  let catalogue: Catalogue
  let admission: Admission
  let limits: ServerSettings.Limits
  let bodies: Admission

  /// Texts of one request at most.
  static let mostTexts = 2048

  private struct Embedding: Encodable {
    enum Vector: Encodable {
      case numbers([Float])
      /// The numbers' bytes, little-endian.
      case base64(String)

      func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .numbers(let numbers): try container.encode(numbers)
        case .base64(let text): try container.encode(text)
        }
      }
    }
    let object = "embedding"
    let index: Int
    let embedding: Vector
  }

  private struct Answer: Encodable {
    struct Usage: Encodable {
      let promptTokens, totalTokens: Int
      enum CodingKeys: String, CodingKey {
        case promptTokens = "prompt_tokens"
        case totalTokens = "total_tokens"
      }
    }
    let object = "list"
    let model: String
    let data: [Embedding]
    let usage: Usage
  }

  func embed(_ request: Request, _: some RequestContext) async throws -> Response {
    var request = request
    let fields = try Fields(body: try await request.wholeBody(limits, bodies))
    guard let model = try fields.text("model") else { throw APIError.bad("model", "model is missing") }
    _ = try await catalogue.resolve(model)
    guard model == catalogue.base else {
      throw APIError.bad(
        "model", "what \(model.shown) was trained for gives no embeddings; name \(catalogue.base.shown)")
    }
    try fields.refuse(["dimensions"])
    let isBase64 = try isBase64(fields)
    let texts = try RequestText.all("input", fields, tokens: engine.backbone.vocabulary)
    guard texts.count <= Self.mostTexts else {
      throw APIError.bad("input", "input may hold \(Self.mostTexts) texts at most")
    }
    for text in texts {
      // What cannot fit is not tokenised first.
      if let bytes = text.bytes, engine.cannotHold(bytes: bytes) {
        throw APIError.bad("input", "a text has \(bytes) bytes", code: "context_length_exceeded")
      }
    }
    let place = try admission.enter(1), end = ContinuousClock.now + .seconds(limits.seconds)
    let tokens = try texts.map { try $0.tokens(engine.backbone) }
    defer { withExtendedLifetime(place) {} }
    var vectors: [[Float]] = []
    for text in tokens {
      if ContinuousClock.now > end { throw APIError.overTime(limits.seconds) }
      // One by one: texts that are written go on between them.
      guard let vector = try await engine.embed(text) else {
        throw APIError.bad("model", "\(model.shown) gives no embeddings: it was trained to continue texts")
      }
      vectors.append(vector)
    }
    let data = vectors.enumerated().map { index, vector in
      Embedding(index: index, embedding: isBase64 ? .base64(Self.base64(vector)) : .numbers(vector))
    }
    let count = tokens.reduce(0) { $0 + $1.count }
    return try JSON.response(Answer(model: model, data: data, usage: .init(promptTokens: count, totalTokens: count)))
  }

  private func isBase64(_ fields: Fields) throws -> Bool {
    switch try fields.text("encoding_format") {
    case nil, "float": return false
    case "base64": return true
    default: throw APIError.bad("encoding_format", "encoding_format must be float or base64")
    }
  }

  private static func base64(_ vector: [Float]) -> String {
    Data(vector.flatMap { withUnsafeBytes(of: $0.bitPattern.littleEndian, Array.init) }).base64EncodedString()
  }
}
