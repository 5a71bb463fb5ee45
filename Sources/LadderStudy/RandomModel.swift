import CLlama
import Foundation
import LadderCompute
import LadderCore

/// The shape of a model that is known by name, to measure memory and speed before its weights are fetched.
public struct ModelShape: Sendable, Equatable {
  public var name: String
  public var architecture: String
  public var blocks: Int
  public var width: Int
  public var feedForward: Int
  public var heads: Int
  public var keyHeads: Int
  public var vocabulary: Int
  public var tied: Bool
  /// Width of one attention head; nil takes the model's width over its heads.
  public var headSize: Int? = nil

  public static let known: [ModelShape] = [
    ModelShape(
      name: "qwen2.5-0.5b", architecture: "qwen2", blocks: 24, width: 896, feedForward: 4864, heads: 14, keyHeads: 2,
      vocabulary: 151936, tied: true),
    ModelShape(
      name: "qwen2.5-1.5b", architecture: "qwen2", blocks: 28, width: 1536, feedForward: 8960, heads: 12, keyHeads: 2,
      vocabulary: 151936, tied: true),
    ModelShape(
      name: "qwen2.5-3b", architecture: "qwen2", blocks: 36, width: 2048, feedForward: 11008, heads: 16, keyHeads: 2,
      vocabulary: 151936, tied: true),
    ModelShape(
      name: "qwen2.5-7b", architecture: "qwen2", blocks: 28, width: 3584, feedForward: 18944, heads: 28, keyHeads: 4,
      vocabulary: 152064, tied: false),
    ModelShape(
      name: "llama-3.2-1b", architecture: "llama", blocks: 16, width: 2048, feedForward: 8192, heads: 32, keyHeads: 8,
      vocabulary: 128256, tied: true),
    ModelShape(
      name: "llama-3.1-8b", architecture: "llama", blocks: 32, width: 4096, feedForward: 14336, heads: 32, keyHeads: 8,
      vocabulary: 128256, tied: false),
  ]

  /// - Throws: `usage` with the known names.
  public static func named(_ name: String) throws -> ModelShape {
    guard let shape = known.first(where: { $0.name == name.lowercased() }) else {
      throw LadderError(.usage, "no shape \(name): take one of \(known.map(\.name).joined(separator: ", "))")
    }
    return shape
  }
}

/// Writes a GGUF of a true shape with random weights: its losses and texts mean nothing, its bytes and milliseconds do.
public struct RandomModel: Sendable {
  public enum Quantisation: String, Sendable, CaseIterable {
    case q4 = "Q4_0"
    case q8 = "Q8_0"
    case f16 = "F16"

    var ggml: ggml_type {
      switch self {
      case .q4: GGML_TYPE_Q4_0
      case .q8: GGML_TYPE_Q8_0
      case .f16: GGML_TYPE_F16
      }
    }
  }

  public var shape: ModelShape
  public var seed: UInt64
  private let blockType: ggml_type
  private let headType: ggml_type

  public init(_ shape: ModelShape, quantisation: Quantisation = .q4, seed: UInt64 = 0) {
    self.shape = shape
    self.seed = seed
    blockType = quantisation.ggml
    headType = quantisation.ggml
  }

  /// A model in the types of another, by ggml's names; a type that cannot be made from random numbers, or does not fit
  /// the width, is replaced by one of like size and speed.
  init(_ shape: ModelShape, blockType: String, headType: String) {
    self.shape = shape
    seed = 0
    let narrow = shape.width % 256 != 0 || shape.feedForward % 256 != 0
    self.blockType = Self.type(blockType, narrow: narrow)
    self.headType = Self.type(headType, narrow: shape.width % 256 != 0)
  }

  private static func type(_ name: String, narrow: Bool) -> ggml_type {
    let types = (0..<Int(GGML_TYPE_COUNT.rawValue)).map { ggml_type(rawValue: UInt32($0)) }
    let found = types.first { type in ggml_type_name(type).map { String(cString: $0).uppercased() == name } ?? false }
    guard let found, !ggml_quantize_requires_imatrix(found) else { return narrow ? GGML_TYPE_Q4_0 : GGML_TYPE_Q4_K }
    return narrow && ggml_blck_size(found) > 32 ? GGML_TYPE_Q5_0 : found
  }

  private var tensors: [RandomTensors.Entry] {
    let width = shape.width
    let headSize = shape.headSize ?? width / max(1, shape.heads)
    let queries = headSize * shape.heads, keys = headSize * shape.keyHeads
    func matrix(_ name: String, _ columns: Int, _ rows: Int, _ scale: Float = 0.02) -> RandomTensors.Entry {
      let type = rows == shape.vocabulary ? headType : blockType
      return RandomTensors.Entry(name: name, shape: [columns, rows], type: type, scale: scale)
    }
    func vector(_ name: String, _ count: Int, _ value: Float) -> RandomTensors.Entry {
      RandomTensors.Entry(name: name, shape: [count], type: GGML_TYPE_F32, scale: value)
    }
    var list = [matrix("token_embd.weight", width, shape.vocabulary, 0.05), vector("output_norm.weight", width, 1)]
    if !shape.tied { list.append(matrix("output.weight", width, shape.vocabulary, 0.05)) }
    for block in 0..<shape.blocks {
      let prefix = "blk.\(block)."
      list += [
        vector(prefix + "attn_norm.weight", width, 1),
        vector(prefix + "ffn_norm.weight", width, 1),
        matrix(prefix + "attn_q.weight", width, queries),
        matrix(prefix + "attn_k.weight", width, keys),
        matrix(prefix + "attn_v.weight", width, keys),
        matrix(prefix + "attn_output.weight", queries, width),
        matrix(prefix + "ffn_gate.weight", width, shape.feedForward),
        matrix(prefix + "ffn_up.weight", width, shape.feedForward),
        matrix(prefix + "ffn_down.weight", shape.feedForward, width),
      ]
      if shape.architecture == "qwen2" {
        list += [
          vector(prefix + "attn_q.bias", queries, 0),
          vector(prefix + "attn_k.bias", keys, 0),
          vector(prefix + "attn_v.bias", keys, 0),
        ]
      }
    }
    return list
  }

  /// - Throws: `inputOutput` where the file cannot be written.
  public func write(_ path: String) throws { try write(path, headerOnly: false) }

  /// - Parameter headerOnly: leave the tensors' data out.
  public func write(_ path: String, headerOnly: Bool) throws {
    guard shape.heads > 0, shape.keyHeads > 0, shape.heads % shape.keyHeads == 0 else {
      throw LadderError(
        .data, "no model of this shape can be measured: \(shape.heads) heads share \(shape.keyHeads) of keys and values"
      )
    }
    guard let file = gguf_init_empty() else { throw LadderError(.engine, "no GGUF context") }
    defer { gguf_free(file) }
    let architecture = shape.architecture
    gguf_set_val_str(file, "general.architecture", architecture)
    gguf_set_val_str(file, "general.name", "random-\(shape.name)")
    gguf_set_val_u32(file, "\(architecture).block_count", UInt32(shape.blocks))
    gguf_set_val_u32(file, "\(architecture).context_length", 32768)
    gguf_set_val_u32(file, "\(architecture).embedding_length", UInt32(shape.width))
    gguf_set_val_u32(file, "\(architecture).feed_forward_length", UInt32(shape.feedForward))
    gguf_set_val_u32(file, "\(architecture).attention.head_count", UInt32(shape.heads))
    gguf_set_val_u32(file, "\(architecture).attention.head_count_kv", UInt32(shape.keyHeads))
    if let head = shape.headSize {
      gguf_set_val_u32(file, "\(architecture).attention.key_length", UInt32(head))
      gguf_set_val_u32(file, "\(architecture).attention.value_length", UInt32(head))
    }
    gguf_set_val_f32(file, "\(architecture).rope.freq_base", 1e6)
    gguf_set_val_f32(file, "\(architecture).attention.layer_norm_rms_epsilon", 1e-6)
    ByteTokenizer.write(file, vocabulary: shape.vocabulary)
    try RandomTensors(entries: tensors, seed: seed).write(file, to: path, headerOnly: headerOnly)
  }
}

/// A tokenizer with a token for every byte: any text tokenises; the rest of the vocabulary is filler.
package enum ByteTokenizer {
  /// Tokens that it has at the least.
  package static let vocabulary = 260

  /// A byte-pair tokenizer whose text is split by the rules of that name; one merge, "ab".
  package static func writePairs(_ file: OpaquePointer, vocabulary: Int, rules: String, control: [String] = []) {
    let plain = Set(33...126).union(161...172).union(174...255)
    var extra = 255
    let letters = (0..<256).map { byte -> String in
      if !plain.contains(byte) { extra += 1 }
      return String(UnicodeScalar(UInt32(plain.contains(byte) ? byte : extra)).map(Character.init) ?? "?")
    }
    var tokens = letters + ["ab", "<s>", "</s>"] + control
    var types = [Int32](repeating: 1, count: 257) + [3, 3] + control.map { _ in 3 }
    while tokens.count < vocabulary {
      tokens.append("filler\(tokens.count)")
      types.append(1)
    }
    gguf_set_val_str(file, "tokenizer.ggml.model", "gpt2")
    gguf_set_val_str(file, "tokenizer.ggml.pre", rules)
    setTexts(file, "tokenizer.ggml.tokens", tokens)
    setTexts(file, "tokenizer.ggml.merges", ["a b"])
    gguf_set_arr_data(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, types.count)
    gguf_set_val_u32(file, "tokenizer.ggml.bos_token_id", 257)
    gguf_set_val_u32(file, "tokenizer.ggml.eos_token_id", 258)
  }

  private static func setTexts(_ file: OpaquePointer, _ key: String, _ texts: [String]) {
    let pointers = texts.map { UnsafePointer<CChar>(strdup($0)) }
    defer { pointers.forEach { free(UnsafeMutablePointer(mutating: $0)) } }
    var list = pointers
    gguf_set_arr_str(file, key, &list, list.count)
  }

  /// - Parameters:
  ///   - control: names of control tokens beside those that begin and end a text.
  ///   - spacePrefix: whether a space is put before each text.
  package static func write(
    _ file: OpaquePointer, vocabulary: Int, control: [String] = [], spacePrefix: Bool = false
  ) {
    var tokens = ["<unk>", "<s>", "</s>"] + (0..<256).map { String(format: "<0x%02X>", $0) } + ["\u{2581}"]
    var types = [2, 3, 3] + [Int32](repeating: 6, count: 256) + [1]
    tokens += control
    types += control.map { _ in 3 }
    var scores = [Float](repeating: 0, count: tokens.count)
    while tokens.count < vocabulary {
      tokens.append("\u{2581}filler\(tokens.count)")
      types.append(1)
      scores.append(-1e4)
    }
    gguf_set_val_str(file, "tokenizer.ggml.model", "llama")
    setTexts(file, "tokenizer.ggml.tokens", tokens)
    gguf_set_arr_data(file, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, scores.count)
    gguf_set_arr_data(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, types.count)
    gguf_set_val_u32(file, "tokenizer.ggml.bos_token_id", 1)
    gguf_set_val_u32(file, "tokenizer.ggml.eos_token_id", 2)
    gguf_set_val_bool(file, "tokenizer.ggml.add_space_prefix", spacePrefix)
  }
}
