import Foundation
import LadderBackbone
import LadderCompute
import LadderCore

/// What the blocks of a model compute, read from its header, for the families whose forward pass is known here, as
/// llama.cpp runs them.
package struct BlockShape: Sendable, Equatable {
  /// By the architecture's name in a GGUF. Mistral's models are `llama` or `mistral3`.
  package enum Family: String, Sendable, CaseIterable {
    case llama, qwen2, qwen3, qwen3moe, gemma3, phi3, mistral3, granite
  }

  /// A matrix of a block that is differentiated through and can have a low-rank addition.
  package struct Matrix: Sendable, Equatable {
    /// Its name in a GGUF, behind `blk.N.`.
    package let tensor: String
    /// Its name in a Hugging Face model, behind `model.layers.N.`.
    package let module: String
    /// What it is, or holds.
    package let targets: Set<LoRAConfiguration.Target>
    package let columns: Int
    package let rows: Int
  }

  /// The experts in the place of each block's feed-forward network.
  package struct Experts: Sendable, Equatable {
    package let used: Int
    package let scale: Float
  }

  package let family: Family
  package let blocks: Int
  package let width: Int
  package let feedForward: Int
  package let heads: Int
  package let keyHeads: Int
  package let headSize: Int
  package let epsilon: Float
  package let ropeBase: Float
  /// Positions are multiplied by this.
  package let ropeScale: Float
  /// Rope of the blocks whose attention is windowed.
  package let windowedRopeBase: Float
  /// Tokens that a windowed block sees; nil where none is windowed.
  package let window: Int?
  /// Of so many blocks all but the last are windowed.
  package let windowPattern: Int
  package let attentionScale: Float
  /// Channels of a head that turn with the position, and what they are multiplied by.
  package let ropeDimensions: Int
  package let ropeMagnitude: Float
  /// The longest context for which the positions are as here; nil for any.
  package let positionsLimit: Int?
  package let embeddingScale: Float
  /// What a block's two parts are multiplied by before they are added to its input.
  package let residualScale: Float
  /// What the head's products are multiplied by.
  package let logitScale: Float
  package let vocabulary: Int
  package let experts: Experts?
  package let matrices: [Matrix]

  /// Pairs of channels that lie apart by half a head turn together (NeoX); llama's are neighbours.
  package var isNeoX: Bool { ![.llama, .mistral3, .granite].contains(family) }
  package var hasHeadNorms: Bool { [.qwen3, .qwen3moe, .gemma3].contains(family) }
  package var hasPostNorms: Bool { family == .gemma3 }
  package var usesGELU: Bool { family == .gemma3 }

  package func isWindowed(_ block: Int) -> Bool { window != nil && block % windowPattern < windowPattern - 1 }

  /// Those that are or hold one of these, in their order.
  package func matrices(of targets: [LoRAConfiguration.Target]) -> [Matrix] {
    targets.reduce(into: []) { chosen, target in
      if let matrix = matrices.first(where: { $0.targets.contains(target) }), !chosen.contains(matrix) {
        chosen.append(matrix)
      }
    }
  }

  /// - Throws: `data` for a family, or a variant of one, whose backward pass is not known here.
  package init(_ file: GGUFFile) throws {
    let header = BlockHeader(file)
    let names = Set(file.tensors.map(\.name))
    guard let family = Family(rawValue: file.architecture) else { throw header.refusal("this is \(file.architecture)") }
    try header.refuseVariants(of: family, names)
    self.family = family
    blocks = try header.need("block_count")
    width = try header.need("embedding_length")
    heads = try header.need("attention.head_count")
    keyHeads = try file.size("attention.head_count_kv") ?? heads
    headSize = try file.size("attention.key_length") ?? width / heads
    epsilon = header.number("attention.layer_norm_rms_epsilon") ?? 1e-6
    ropeBase = header.number("rope.freq_base") ?? 10000
    ropeScale = try header.ropeScale()
    windowedRopeBase = header.number("rope.freq_base_swa") ?? 10000
    let window = file.own("attention.sliding_window")
    self.window = family == .gemma3 && (window ?? 0) > 0 ? window : nil
    windowPattern = file.windowPeriod ?? 1
    attentionScale =
      header.number("attention.scale").flatMap { $0 == 0 ? nil : $0 }
      ?? 1 / Float(family == .gemma3 && blocks == 62 ? width / heads : headSize).squareRoot()
    ropeDimensions = try file.size("rope.dimension_count") ?? headSize
    ropeMagnitude = header.number("rope.scaling.attn_factor") ?? 1
    positionsLimit =
      names.contains("rope_factors_short.weight")
      ? file.own("rope.scaling.original_context_length") ?? file.own("context_length") : nil
    func granite(_ key: String) -> Float? {
      family == .granite ? header.number(key).flatMap { $0 == 0 ? nil : $0 } : nil
    }
    embeddingScale = family == .gemma3 ? Float(width).squareRoot() : granite("embedding_scale") ?? 1
    residualScale = granite("residual_scale") ?? 1
    logitScale = 1 / (granite("logit_scale") ?? 1)
    vocabulary = file.tensors.first { $0.name == "token_embd.weight" }?.shape.last ?? 0
    let headSize = headSize
    if let odd = ["attention.value_length", "rope.dimension_count"].first(where: {
      (family != .phi3 || $0 != "rope.dimension_count") && file.own($0) ?? headSize != headSize
    }) {
      throw header.refusal("this one's \(odd) is not its heads' width")
    }
    if family == .qwen3moe {
      feedForward = try header.need("expert_feed_forward_length")
      let scale = header.number("expert_weights_scale") ?? 1
      experts = Experts(used: try header.need("expert_used_count"), scale: scale == 0 ? 1 : scale)
    } else {
      feedForward = try header.need("feed_forward_length")
      experts = nil
    }
    matrices = Self.matrices(
      width: width, queries: heads * headSize, keys: keyHeads * headSize,
      feedForward: experts == nil ? feedForward : nil,
      fusesAttention: names.contains("blk.0.attn_qkv.weight"), fusesGate: family == .phi3)
  }

  /// - Parameter feedForward: nil where experts take the feed-forward network's place; they stay as they are.
  private static func matrices(
    width: Int, queries: Int, keys: Int, feedForward: Int?, fusesAttention: Bool, fusesGate: Bool
  ) -> [Matrix] {
    func matrix(
      _ tensor: String, _ module: String, _ targets: Set<LoRAConfiguration.Target>, _ columns: Int, _ rows: Int
    )
      -> Matrix
    { Matrix(tensor: tensor, module: module, targets: targets, columns: columns, rows: rows) }
    var all =
      fusesAttention
      ? [matrix("attn_qkv", "self_attn.qkv_proj", [.q, .k, .v], width, queries + 2 * keys)]
      : [
        matrix("attn_q", "self_attn.q_proj", [.q], width, queries),
        matrix("attn_k", "self_attn.k_proj", [.k], width, keys),
        matrix("attn_v", "self_attn.v_proj", [.v], width, keys),
      ]
    all.append(matrix("attn_output", "self_attn.o_proj", [.o], queries, width))
    guard let feedForward else { return all }
    all +=
      fusesGate
      ? [matrix("ffn_up", "mlp.gate_up_proj", [.gate, .up], width, 2 * feedForward)]
      : [
        matrix("ffn_gate", "mlp.gate_proj", [.gate], width, feedForward),
        matrix("ffn_up", "mlp.up_proj", [.up], width, feedForward),
      ]
    all.append(matrix("ffn_down", "mlp.down_proj", [.down], feedForward, width))
    return all
  }

  /// - Throws: `usage` where samples are longer than the context for which the positions are as here.
  package func require(maxTokens: Int, _ file: GGUFFile) throws {
    if let positionsLimit, maxTokens > positionsLimit {
      throw LadderError(
        .usage,
        "`maxLength` \(maxTokens): \(file.path) turns its positions another way beyond \(positionsLimit) tokens, which "
          + "`method` qlora does not know; use a smaller `maxLength`")
    }
  }
}

/// What a header says, and why it is refused.
private struct BlockHeader {
  let file: GGUFFile

  init(_ file: GGUFFile) { self.file = file }

  func refusal(_ what: String) -> LadderError {
    let names = BlockShape.Family.allCases.map(\.rawValue).joined(separator: ", ")
    return LadderError(
      .data,
      "\(file.path): `method` qlora back-propagates through \(names) models, and \(what); `method` lst takes any model")
  }

  func need(_ key: String) throws -> Int {
    guard let value = try file.size(key) else {
      throw LadderError(.data, "\(file.path): the header names no \(file.architecture).\(key); convert the model again")
    }
    return value
  }

  func number(_ key: String) -> Float? {
    switch file.metadata["\(file.architecture).\(key)"] {
    case .number(let value): Float(value)
    case .integer(let value): Float(value)
    default: nil
    }
  }

  func ropeScale() throws -> Float {
    let factor = number("rope.scaling.factor") ?? number("rope.scale_linear") ?? 1
    let scaling = file.string("\(file.architecture).rope.scaling.type") ?? "linear"
    guard ["linear", "none", "longrope"].contains(scaling) || factor <= 1 else {
      throw refusal("this one stretches its positions by \(scaling)")
    }
    return scaling == "none" || factor <= 0 ? 1 : 1 / factor
  }

  func refuseVariants(of family: BlockShape.Family, _ names: Set<String>) throws {
    if case .array? = file.metadata["\(file.architecture).attention.sliding_window_pattern"], family == .gemma3 {
      throw refusal("this one lists its windowed blocks")
    }
    if let scale = names.first(where: { $0.hasPrefix("blk.") && $0.hasSuffix(".scale") || $0 == "output.scale" }) {
      throw refusal("this one has a factor beside its matrices (\(scale))")
    }
    for key in ["attention.head_count", "attention.head_count_kv", "feed_forward_length"] {
      if case .array? = file.metadata["\(file.architecture).\(key)"] {
        throw refusal("this one's blocks differ in \(key)")
      }
    }
    if family != .qwen3moe, names.contains("blk.0.ffn_gate_inp.weight") {
      throw refusal("this one has experts (blk.0.ffn_gate_inp.weight)")
    }
    if family != .phi3, let fused = ["blk.0.attn_qkv.weight", "rope_factors_long.weight"].first(where: names.contains) {
      throw refusal("this one has \(fused)")
    }
    if family == .gemma3, number("final_logit_softcapping") ?? 0 != 0 { throw refusal("this one caps its logits") }
    if family == .mistral3, number("attention.temperature_scale") ?? 0 != 0 {
      throw refusal("this one sharpens its attention with the position")
    }
    if family == .granite {
      if file.flag("granite.rope.scaling.finetuned") == false { throw refusal("this one has no positions") }
      if file.metadata["granite.deepstack_mapping"] != nil { throw refusal("this one takes images between its blocks") }
    }
  }
}

extension HeadDescription {
  /// The head of a model whose family is known, so that the model need not be run to find it.
  /// - Throws: `data` for another family.
  package init(of file: GGUFFile) throws {
    let shape = try BlockShape(file)
    let own = file.tensors.contains { $0.name == "output.weight" }
    self.init(tensor: own ? "output.weight" : "token_embd.weight", scale: shape.logitScale)
  }
}
