import LadderCompute
import LadderCore
import LadderData

/// Vectors of whole texts, from models that were trained to give them: their metadata say how the final norm's rows of a
/// text become one (`pooling_type`). The head is not run.
package final class TextEmbedder {
  /// Numbers of a vector.
  package var width: Int { forward.backbone.width }
  /// Tokens of a text at most.
  package var maxTokens: Int { forward.maxTokens }
  private let forward: ForwardPass
  private let pooling: Pooling
  private let pool: TensorPool

  /// By llama.cpp's numbers; a ranking model's is another thing.
  private enum Pooling: Int {
    case mean = 1
    case first
    case last
  }

  /// - Returns: nil for a model that gives none.
  /// - Throws: `engine` where there is no memory for it.
  package static func make(_ backbone: Backbone, maxTokens: Int) throws -> TextEmbedder? {
    let pooling = backbone.file.integer("\(backbone.file.architecture).pooling_type").flatMap(Pooling.init)
    return try pooling.map { try TextEmbedder(backbone, $0, maxTokens: maxTokens) }
  }

  private init(_ backbone: Backbone, _ pooling: Pooling, maxTokens: Int) throws {
    self.pooling = pooling
    forward = try ForwardPass(
      backbone, rungs: [], maxTokens: maxTokens, texts: 1, finalRows: pooling == .mean ? nil : 1)
    pool = TensorPool(backbone.engine, tensors: 4)
  }

  /// A text's vector of length 1.
  /// - Throws: `usage` for a text without a token, or with more than fit.
  package func vector(_ tokens: [Int32]) throws -> [Float] {
    guard (1...maxTokens).contains(tokens.count) else {
      throw LadderError(.usage, "a text has \(tokens.count) tokens; 1 to \(maxTokens) can be embedded")
    }
    let rows =
      switch pooling {
      case .mean: Array(tokens.indices)
      case .first: [0]
      case .last: [tokens.count - 1]
      }
    try pool.reset()
    let final = try pool.make(.float32, [width, rows.count])
    try forward.run([PackedSample(tokens: tokens, lossRows: rows)], taps: [], final: final)
    let numbers = final.read()
    let sums = (0..<width).map { channel in
      rows.indices.reduce(0) { $0 + Double(numbers[$1 * width + channel]) }
    }
    // A mean has the same direction as the sum.
    let length = sums.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return sums.map { Float(length > 0 ? $0 / length : $0) }
  }
}
