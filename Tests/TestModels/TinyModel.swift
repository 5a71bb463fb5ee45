import CLlama
import Foundation
import LadderCompute
import LadderCore
import LadderStudy

/// Writes small GGUF models with random weights, of true architectures and with a byte-level tokenizer: any text
/// tokenises, one token a byte.
package struct TinyModel {
  package enum Architecture: String { case qwen2, qwen3, llama, gemma2, gemma3, granite, bert }

  package var architecture = Architecture.qwen2
  package var blocks = 4
  package var width = 64
  package var feedForward = 96
  package var heads = 4
  /// What the header says instead.
  package var headerHeads: Int?
  package var keyHeads = 2
  package var vocabulary = 512
  package var tied = false
  /// Tokens that gemma3's windowed blocks see.
  package var slidingWindow = 16
  package var type = GGML_TYPE_Q8_0
  package var seed: UInt64 = 1
  package var chatTemplate: String?
  /// A byte-pair tokenizer with these rules of splitting, instead of one of bytes.
  package var pairRules: String?
  /// Control tokens beside those that begin and end a text.
  package var controlTokens: [String] = []
  /// Whether the tokenizer puts a space before each text.
  package var spacePrefix = false
  /// Whether the vocabulary says that each text ends with the token that ends one.
  package var addsEnd = false
  /// How a text's rows become one vector: 1 mean, 2 the first's, 3 the last's.
  package var pooling: Int?
  /// More of the metadata.
  package var texts: [String: String] = [:]

  package init() {}

  package func write(_ path: String) throws {
    guard let file = gguf_init_empty() else { throw LadderError(.engine, "no GGUF context") }
    defer { gguf_free(file) }
    let a = architecture.rawValue, head = width / heads
    gguf_set_val_str(file, "general.architecture", a)
    gguf_set_val_str(file, "general.name", "tiny-\(a)")
    gguf_set_val_u32(file, "\(a).block_count", UInt32(blocks))
    gguf_set_val_u32(file, "\(a).context_length", 4096)
    if let pooling { gguf_set_val_u32(file, "\(a).pooling_type", UInt32(pooling)) }
    gguf_set_val_u32(file, "\(a).embedding_length", UInt32(width))
    gguf_set_val_u32(file, "\(a).feed_forward_length", UInt32(feedForward))
    gguf_set_val_u32(file, "\(a).attention.head_count", UInt32(truncatingIfNeeded: headerHeads ?? heads))
    gguf_set_val_u32(file, "\(a).attention.head_count_kv", UInt32(keyHeads))
    gguf_set_val_u32(file, "\(a).rope.dimension_count", UInt32(head))
    gguf_set_val_f32(file, "\(a).rope.freq_base", architecture == .gemma3 ? 1_000_000 : 10000)
    gguf_set_val_f32(file, "\(a).attention.layer_norm_rms_epsilon", 1e-6)
    switch architecture {
    case .gemma2:
      gguf_set_val_u32(file, "\(a).attention.key_length", UInt32(head))
      gguf_set_val_u32(file, "\(a).attention.value_length", UInt32(head))
      gguf_set_val_f32(file, "\(a).attn_logit_softcapping", 50)
      gguf_set_val_f32(file, "\(a).final_logit_softcapping", 3)
      gguf_set_val_u32(file, "\(a).attention.sliding_window", 512)
    case .granite:
      gguf_set_val_f32(file, "\(a).logit_scale", 4)
      gguf_set_val_f32(file, "\(a).embedding_scale", 3)
      gguf_set_val_f32(file, "\(a).residual_scale", 0.5)
      gguf_set_val_f32(file, "\(a).attention.scale", 0.25)
    case .bert:
      gguf_set_val_bool(file, "\(a).attention.causal", false)
    case .gemma3:
      gguf_set_val_u32(file, "\(a).attention.key_length", UInt32(head))
      gguf_set_val_u32(file, "\(a).attention.value_length", UInt32(head))
      gguf_set_val_u32(file, "\(a).attention.sliding_window", UInt32(slidingWindow))
      gguf_set_val_u32(file, "\(a).attention.sliding_window_pattern", 3)
    case .qwen3:
      gguf_set_val_u32(file, "\(a).attention.key_length", UInt32(head))
      gguf_set_val_u32(file, "\(a).attention.value_length", UInt32(head))
    case .qwen2, .llama: break
    }
    if let pairRules {
      ByteTokenizer.writePairs(file, vocabulary: vocabulary, rules: pairRules, control: controlTokens)
    } else {
      ByteTokenizer.write(file, vocabulary: vocabulary, control: controlTokens, spacePrefix: spacePrefix)
    }
    if addsEnd { gguf_set_val_bool(file, "tokenizer.ggml.add_eos_token", true) }
    for (key, text) in texts { gguf_set_val_str(file, key, text) }
    if let chatTemplate { gguf_set_val_str(file, "tokenizer.chat_template", chatTemplate) }

    var tensors: [(name: String, shape: [Int], matrix: Bool)] = [
      ("token_embd.weight", [width, vocabulary], true), ("output_norm.weight", [width], false),
    ]
    if !tied, architecture != .gemma2, architecture != .gemma3 {
      tensors.append(("output.weight", [width, vocabulary], true))
    }
    for block in 0..<blocks {
      let p = "blk.\(block)."
      tensors += [
        (p + "attn_norm.weight", [width], false), (p + "ffn_norm.weight", [width], false),
        (p + "attn_q.weight", [width, width], true),
        (p + "attn_k.weight", [width, head * keyHeads], true), (p + "attn_v.weight", [width, head * keyHeads], true),
        (p + "attn_output.weight", [width, width], true), (p + "ffn_gate.weight", [width, feedForward], true),
        (p + "ffn_up.weight", [width, feedForward], true), (p + "ffn_down.weight", [feedForward, width], true),
      ]
      if architecture == .qwen2 {
        tensors += [
          (p + "attn_q.bias", [width], false), (p + "attn_k.bias", [head * keyHeads], false),
          (p + "attn_v.bias", [head * keyHeads], false),
        ]
      }
      if architecture == .gemma3 || architecture == .qwen3 {
        tensors += [(p + "attn_q_norm.weight", [head], false), (p + "attn_k_norm.weight", [head], false)]
      }
      if architecture == .gemma2 || architecture == .gemma3 {
        tensors += [(p + "post_attention_norm.weight", [width], false), (p + "post_ffw_norm.weight", [width], false)]
      }
    }
    let bytes = tensors.reduce(1 << 20) { $0 + 4 * $1.shape.reduce(1, *) + 1024 }
    guard let context = ggml_init(ggml_init_params(mem_size: bytes, mem_buffer: nil, no_alloc: false)) else {
      throw LadderError(.engine, "no memory")
    }
    defer { ggml_free(context) }
    for (index, tensor) in tensors.enumerated() {
      var random = SeededRandom(seed: seed, index)
      let count = tensor.shape.reduce(1, *), columns = tensor.shape[0]
      let deviation =
        tensor.name.hasPrefix("token_embd") || tensor.name == "output.weight" ? 0.5 : 1 / Float(columns).squareRoot()
      let values = (0..<count).map { _ in
        tensor.matrix
          ? random.normal() * deviation
          : tensor.name.hasSuffix("bias") ? random.normal() * 0.1 : 1 + 0.1 * random.normal()
      }
      let dimensions = tensor.shape.map(Int64.init)
      guard let t = ggml_new_tensor(context, tensor.matrix ? type : GGML_TYPE_F32, Int32(dimensions.count), dimensions)
      else { continue }
      ggml_set_name(t, tensor.name)
      if tensor.matrix, type != GGML_TYPE_F32 {
        let importance = ggml_quantize_requires_imatrix(type) ? [Float](repeating: 1, count: columns) : nil
        ggml_quantize_chunk(
          type, values, t.pointee.data, 0, Int64(count / columns), Int64(columns), importance)
      } else {
        values.withUnsafeBytes {
          if let base = $0.baseAddress { t.pointee.data.copyMemory(from: base, byteCount: $0.count) }
        }
      }
      gguf_add_tensor(file, t)
    }
    guard gguf_write_to_file(file, path, false) else { throw LadderError(.inputOutput, "cannot write \(path)") }
  }
}

/// A folder that is removed with the object.
package final class TemporaryFolder: Sendable {
  package let path: String

  package init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("ladder-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  package func file(_ name: String) -> String { path + "/" + name }

  package func write(_ name: String, _ text: String) throws -> String {
    try Data(text.utf8).write(to: URL(fileURLWithPath: file(name)))
    return file(name)
  }

  /// A tiny model's path.
  package func model(_ name: String = "model.gguf", _ change: (inout TinyModel) -> Void = { _ in }) throws -> String {
    var model = TinyModel()
    change(&model)
    try model.write(file(name))
    return file(name)
  }
}

/// Gemma 3 270M, where `scripts/bootstrap` put it.
package enum DemoModel {
  package static let path: String? = {
    var folder = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { folder.deleteLastPathComponent() }
    let path = folder.appendingPathComponent(".deps/models/gemma-3-270m-q4_k_m.gguf").path
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }()
}
