import Foundation
import LadderCompute
import LadderCore

/// How low-rank matrices are trained inside the frozen model (Hu et al. 2021, "LoRA"; on quantised weights: Dettmers et
/// al. 2023, "QLoRA").
public struct LoRAConfiguration: Codable, Sendable, Equatable {
  /// The matrices of a block that can have a low-rank addition. Where a model holds several of them as one, phi3's q,
  /// k and v or its gate and up, that one has one addition, whichever of them is named.
  public enum Target: String, Codable, Sendable, CaseIterable {
    case q, k, v, o, gate, up, down
  }

  /// r, the inner width of B·A.
  public var rank = 16
  /// The addition is scaled by alpha / rank.
  public var alpha: Float = 32
  /// The share of its input's channels that training sets to zero.
  public var dropout: Float = 0
  /// The matrices of each block that get an addition.
  public var targets: [Target] = Target.allCases
  /// Keep only each block's input, and compute its inside again in the backward pass.
  public var checkpointing = false
  /// Keep activations, and multiply by transposed weights, in BF16; false works in F32 throughout.
  public var rounds = true

  /// The hub's name or the folder of the Hugging Face model that the GGUF was made from, for PEFT's
  /// `base_model_name_or_path`; nil takes what the GGUF's metadata name, or the GGUF's own path.
  public var baseModel: String?

  public init() {}

  /// - Throws: `usage` for the first setting that is out of range.
  package func validate() throws {
    func require(_ condition: Bool, _ message: String) throws { if !condition { throw LadderError(.usage, message) } }
    try require((1...1024).contains(rank), "`rank` must be 1 to 1024")
    try require(alpha > 0 && alpha.isFinite, "`alpha` must be above 0")
    try require((0..<1).contains(dropout), "`dropout` is a share, from 0 up to 1")
    try require(!targets.isEmpty, "`targets` names no matrix")
    try require(
      baseModel.map { !$0.isEmpty && $0.allSatisfy { !$0.isNewline } } ?? true,
      "`baseModel` is a hub's name like owner/name, or a folder")
  }
}
