import LadderCompute
import LadderCore

/// What decides a backbone's memory and time, read from the header of its file alone.
public struct ModelDimensions: Sendable, Equatable {
  public var blocks: Int
  public var width: Int
  public var feedForward: Int
  public var heads: Int
  public var keyHeads: Int
  public var headSize: Int
  public var vocabulary: Int
  /// Bytes of all weights, and of the output head among them.
  public var weightsBytes: Int
  public var headBytes: Int
  /// The head is the embedding too.
  public var tied: Bool
  /// ggml's name of the type that most of the blocks' bytes have, and the head's.
  public var blockType: String
  public var headType: String
  /// Numbers in the blocks' matrices.
  public var blockParameters: Int
  /// Keys and values that a windowed block keeps; nil where every block keeps all.
  public var window: Int?
  public var contextLength: Int

  /// - Throws: `data` where the header lacks a number that a decoder-only model has.
  public init(_ file: GGUFFile) throws {
    try file.requireDecoder()
    func need(_ key: String) throws -> Int {
      guard let value = file.own(key) else {
        throw LadderError(.data, "\(file.path): the header names no \(file.architecture).\(key)")
      }
      return value
    }
    blocks = try need("block_count")
    width = try need("embedding_length")
    heads = try need("attention.head_count")
    keyHeads = file.own("attention.head_count_kv") ?? heads
    headSize = file.own("attention.key_length") ?? width / max(1, heads)
    feedForward = file.own("feed_forward_length") ?? 4 * width
    contextLength = file.own("context_length") ?? 0
    window = file.own("attention.sliding_window")
    guard let embedding = file.tensors.first(where: { $0.name == "token_embd.weight" }), embedding.shape.count == 2
    else {
      throw LadderError(.data, "\(file.path) holds no token embedding")
    }
    let output = file.tensors.first { $0.name == "output.weight" } ?? embedding
    vocabulary = embedding.shape[1]
    tied = output.name == embedding.name
    headBytes = output.bytes
    headType = output.type
    weightsBytes = file.tensors.reduce(0) { $0 + $1.bytes }
    let matrices = file.tensors.filter { $0.name.hasPrefix("blk.") && $0.shape.count >= 2 }
    blockParameters = matrices.reduce(0) { $0 + $1.shape.reduce(1, *) }
    blockType =
      Dictionary(grouping: matrices, by: \.type).mapValues { $0.reduce(0) { $0 + $1.bytes } }.max {
        ($0.value, $0.key) < ($1.value, $1.key)
      }?.key ?? "F32"
  }
}

extension ModelDimensions {
  /// Numbers in the matrices of all blocks, by the architecture's formula.
  package var blockNumbers: Int {
    let queries = heads * headSize, keys = keyHeads * headSize
    return blocks * (width * (queries + 2 * keys) + queries * width + 3 * width * feedForward)
  }

  /// Floating-point operations of attention per token of samples of this length.
  package func attentionOperations(length: Double) -> Double { 2 * length * Double(heads * headSize * blocks) }

  /// Of a forward pass per token, the head's aside. Norms and non-linearities are left out.
  package func forwardOperations(length: Double) -> Double {
    2 * Double(blockNumbers) + attentionOperations(length: length)
  }
}
