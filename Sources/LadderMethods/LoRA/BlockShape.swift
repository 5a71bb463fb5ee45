import Foundation
import LadderBackbone
import LadderCompute
import LadderCore

/// What the blocks of a model compute, read from its header, for the families whose forward pass is known here: llama,
/// qwen2, qwen3 and gemma3, as llama.cpp runs them.
package struct BlockShape: Sendable, Equatable {
  package enum Family: String, Sendable, CaseIterable { case llama, qwen2, qwen3, gemma3 }

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
  package let vocabulary: Int

  /// Pairs of channels that lie apart by half a head turn together (NeoX); llama's are neighbours.
  package var isNeoX: Bool { family != .llama }
  package var hasHeadNorms: Bool { family == .qwen3 || family == .gemma3 }
  package var hasPostNorms: Bool { family == .gemma3 }
  package var usesGELU: Bool { family == .gemma3 }
  package var embeddingScale: Float { family == .gemma3 ? Float(width).squareRoot() : 1 }

  package func isWindowed(_ block: Int) -> Bool { window != nil && block % windowPattern < windowPattern - 1 }

  /// Columns and rows of a target's matrix.
  package func shape(of target: LoRAConfiguration.Target) -> (columns: Int, rows: Int) {
    switch target {
    case .q: (width, heads * headSize)
    case .k, .v: (width, keyHeads * headSize)
    case .o: (heads * headSize, width)
    case .gate, .up: (width, feedForward)
    case .down: (feedForward, width)
    }
  }

  /// - Throws: `data` for a family, or a variant of one, whose backward pass is not known here.
  package init(_ file: GGUFFile) throws {
    let architecture = file.architecture
    func refuse(_ what: String) -> LadderError {
      let names = Family.allCases.map(\.rawValue).joined(separator: ", ")
      return LadderError(
        .data,
        "\(file.path): `method` qlora back-propagates through \(names) models, and \(what); `method` lst takes "
          + "any model"
      )
    }
    guard let family = Family(rawValue: architecture) else { throw refuse("this is \(architecture)") }
    func need(_ key: String) throws -> Int {
      guard let value = try file.size(key) else {
        throw LadderError(.data, "\(file.path): the header names no \(architecture).\(key); convert the model again")
      }
      return value
    }
    func number(_ key: String) -> Float? {
      switch file.metadata["\(architecture).\(key)"] {
      case .number(let value): Float(value)
      case .integer(let value): Float(value)
      default: nil
      }
    }
    self.family = family
    blocks = try need("block_count")
    width = try need("embedding_length")
    feedForward = try need("feed_forward_length")
    heads = try need("attention.head_count")
    keyHeads = try file.size("attention.head_count_kv") ?? heads
    headSize = try file.size("attention.key_length") ?? width / heads
    epsilon = number("attention.layer_norm_rms_epsilon") ?? 1e-6
    ropeBase = number("rope.freq_base") ?? 10000
    let factor = number("rope.scaling.factor") ?? number("rope.scale_linear") ?? 1
    let scaling = file.string("\(architecture).rope.scaling.type") ?? "linear"
    guard scaling == "linear" || scaling == "none" || factor <= 1 else {
      throw refuse("this one stretches its positions by \(scaling)")
    }
    ropeScale = scaling == "none" || factor <= 0 ? 1 : 1 / factor
    windowedRopeBase = number("rope.freq_base_swa") ?? 10000
    let window = file.own("attention.sliding_window")
    self.window = family == .gemma3 && (window ?? 0) > 0 ? window : nil
    windowPattern = file.own("attention.sliding_window_pattern") ?? 6
    if case .array? = file.metadata["\(architecture).attention.sliding_window_pattern"] {
      throw refuse("this one lists its windowed blocks")
    }
    attentionScale =
      number("attention.scale") ?? 1 / Float(family == .gemma3 && blocks == 62 ? width / heads : headSize).squareRoot()
    vocabulary = file.tensors.first { $0.name == "token_embd.weight" }?.shape.last ?? 0
    if let odd = ["attention.value_length", "rope.dimension_count"].first(where: {
      file.own($0) ?? headSize != headSize
    }) {
      throw refuse("this one's \(odd) is not its heads' width")
    }
    let names = Set(file.tensors.map(\.name))
    for unknown in [
      "blk.0.ffn_gate_inp.weight", "blk.0.attn_qkv.weight", "blk.0.ffn_down.bias", "blk.0.attn_output.bias",
      "rope_factors_long.weight",
    ]
    where names.contains(unknown) { throw refuse("this one has \(unknown)") }
    guard number("final_logit_softcapping") == nil, number("logit_scale") == nil else {
      throw refuse("this one scales its logits")
    }
  }
}

extension HeadDescription {
  /// The head of a model whose family is known, so that the model need not be run to find it.
  /// - Throws: `data` for another family.
  package init(of file: GGUFFile) throws {
    _ = try BlockShape(file)
    let own = file.tensors.contains { $0.name == "output.weight" }
    self.init(tensor: own ? "output.weight" : "token_embd.weight")
  }
}
