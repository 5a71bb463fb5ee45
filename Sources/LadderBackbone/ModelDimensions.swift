import LadderCompute
import LadderCore

/// What decides a backbone's memory and time, read from the header of its file alone.
package struct ModelDimensions: Sendable, Equatable {
  package var blocks: Int
  package var width: Int
  package var feedForward: Int
  package var heads: Int
  package var keyHeads: Int
  package var headSize: Int
  package var vocabulary: Int
  /// Bytes of all weights, and of the output head among them.
  package var weightsBytes: Int
  package var headBytes: Int
  /// The head is the embedding too.
  package var tied: Bool
  /// ggml's name of the type that most of the blocks' bytes have, and the head's.
  package var blockType: String
  package var headType: String
  /// Numbers in the blocks' matrices.
  package var blockParameters: Int
  /// Keys and values that a windowed block keeps; nil where every block keeps all, and where it is not known which do.
  package var window: Int?
  /// Whether there are windowed blocks.
  package var isWindowed: Bool
  /// Blocks that keep all keys and values.
  package var wholeBlocks: Int
  /// Experts of a block, and the width of one; nil for a model without.
  package var experts: Experts?
  package var contextLength: Int

  package struct Experts: Sendable, Equatable {
    package var count, width: Int
  }

  /// - Throws: `data` where the header lacks a number that a decoder-only model has.
  package init(_ file: GGUFFile) throws {
    try file.requireDecoder()
    func need(_ key: String, atLeast least: Int = 1) throws -> Int {
      guard let value = try file.size(key, atLeast: least) else {
        throw LadderError(.data, "\(file.path): the header names no \(file.architecture).\(key)")
      }
      return value
    }
    _ = try need("block_count")
    blocks = try file.blocks() ?? 1
    width = try need("embedding_length")
    // A recurrent model has no heads.
    heads = try need("attention.head_count", atLeast: 0)
    keyHeads = try file.size("attention.head_count_kv", atLeast: 0) ?? heads
    headSize = try file.size("attention.key_length", atLeast: 0) ?? width / max(1, heads)
    feedForward = try file.size("feed_forward_length", atLeast: 0) ?? 4 * width
    contextLength = max(0, file.own("context_length") ?? 0)
    // llama.cpp knows of phi3's windows and takes none.
    let own = try file.size("attention.sliding_window", atLeast: 0) ?? 0
    isWindowed = own > 0 && file.architecture != "phi3"
    if isWindowed, let period = file.windowPeriod, period > 1 {
      window = own
      wholeBlocks = (blocks + period - 1) / period
    } else {
      wholeBlocks = blocks
    }
    experts =
      if let count = try file.size("expert_count", atLeast: 0), count > 0,
        let width = try file.size("expert_feed_forward_length")
      { Experts(count: count, width: width) } else { nil }
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

extension GGUFFile {
  /// One block in so many keeps all keys and values, where the others have windows; nil where it is not known which.
  package var windowPeriod: Int? {
    if case .integer(let own)? = metadata["\(architecture).attention.sliding_window_pattern"] { return own }
    return ["gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "olmo2": 4, "exaone4": 4][architecture]
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
