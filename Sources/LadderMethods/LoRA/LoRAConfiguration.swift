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

  /// Which of the model's blocks get additions.
  public enum Blocks: Codable, Sendable, Equatable {
    /// The last N.
    case last(Int)
    /// From one to another, both counted from 1 and both among them.
    case range(Int, Int)
  }

  /// r, the inner width of B·A.
  public var rank = 16
  /// The addition is scaled by alpha / rank.
  public var alpha: Float = 32
  /// The share of its input's channels that training sets to zero.
  public var dropout: Float = 0
  /// The matrices of each block that get an addition.
  public var targets: [Target] = Target.allCases
  /// The blocks that get additions; nil is all. What lies below the first of them stays as it is: llama.cpp runs it, and
  /// an activation cache can hold what it hands on.
  public var blocks: Blocks? = nil
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
    switch blocks {
    case .last(let count): try require(count > 0, "`blocks` must be 1 or more, or a range a-b")
    case .range(let first, let last): try require(first >= 1 && first <= last, "`blocks` a-b: 1 ≤ a ≤ b")
    case nil: break
    }
    try require(!targets.isEmpty, "`targets` names no matrix")
    try require(
      baseModel.map { !$0.isEmpty && $0.allSatisfy { !$0.isNewline } } ?? true,
      "`baseModel` is a hub's name like owner/name, or a folder")
  }

  /// The blocks that get additions in a model of `count`, from 0.
  /// - Throws: `usage` where the model has fewer.
  package func adapted(of count: Int) throws -> Range<Int> {
    switch blocks {
    case nil: return 0..<count
    case .last(let last):
      guard last < count else {
        throw LadderError(
          .usage, "`blocks` \(last): the model has \(count); take 1 to \(count - 1), or leave it out for all")
      }
      return (count - last)..<count
    case .range(let first, let last):
      guard last <= count else {
        throw LadderError(.usage, "`blocks` \(first)-\(last): the model has \(count)")
      }
      return (first - 1)..<last
    }
  }
}
