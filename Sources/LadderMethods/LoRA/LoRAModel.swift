import LadderBackbone
import LadderCompute
import LadderCore

/// A frozen model with a low-rank addition at chosen matrices: y = W·x + (alpha / r)·B·(A·x), B zero at the start
/// (Hu et al. 2021, eq. 3). Its forward pass is llama.cpp's, node for node where a node has a gradient.
package final class LoRAModel {
  package let configuration: LoRAConfiguration
  package let shape: BlockShape
  package let parameters: Parameters
  package let weights: FrozenWeights
  package let engine: Engine
  private let blocks: [Block]

  private struct Block {
    var norms: [String: Tensor] = [:]
    var matrices: [LoRAConfiguration.Target: Tensor] = [:]
    var biases: [LoRAConfiguration.Target: Tensor] = [:]
  }

  package init(_ configuration: LoRAConfiguration, _ backbone: Backbone) throws {
    try configuration.validate()
    self.configuration = configuration
    let shape = try BlockShape(backbone.file)
    self.shape = shape
    engine = backbone.engine
    let weights = try FrozenWeights(backbone)
    self.weights = weights
    parameters = try Parameters(Self.specifications(configuration, shape), backbone.engine, trainable: true)
    blocks = try (0..<shape.blocks).map { index in
      let prefix = "blk.\(index)."
      var block = Block()
      let names =
        ["attn_norm", "ffn_norm"] + (shape.hasHeadNorms ? ["attn_q_norm", "attn_k_norm"] : [])
        + (shape.hasPostNorms ? ["post_attention_norm", "post_ffw_norm"] : [])
      for name in names { block.norms[name] = try weights.require(prefix + name + ".weight") }
      for target in LoRAConfiguration.Target.allCases {
        block.matrices[target] = try weights.require(prefix + target.tensor + ".weight")
        block.biases[target] = weights[prefix + target.tensor + ".bias"]
      }
      return block
    }
  }

  // MARK: - Parameters

  package static func specifications(_ configuration: LoRAConfiguration, _ shape: BlockShape) -> [Parameters
    .Specification]
  {
    (0..<shape.blocks).flatMap { block in
      configuration.targets.flatMap { target in
        let (columns, rows) = shape.shape(of: target)
        return [
          Parameters.Specification(name(block, target, "a"), [columns, configuration.rank]),
          Parameters.Specification(name(block, target, "b"), [configuration.rank, rows]),
        ]
      }
    }
  }

  static func name(_ block: Int, _ target: LoRAConfiguration.Target, _ part: String) -> String {
    "blk.\(block).\(target.tensor).lora_\(part)"
  }

  package func names(ofBlock block: Int) -> [String] {
    configuration.targets.flatMap { [Self.name(block, $0, "a"), Self.name(block, $0, "b")] }
  }

  /// A uniform within ±1/√columns, as PEFT draws it; B zero, so that training starts from the model itself.
  package func initialise(seed: UInt64) {
    for (index, specification) in parameters.specifications.enumerated() {
      var random = SeededRandom(seed: seed, 5, index)
      let bound = specification.name.hasSuffix("_b") ? 0 : 1 / Float(specification.shape[0]).squareRoot()
      parameters[specification.name].write((0..<specification.count).map { _ in (2 * random.uniform() - 1) * bound })
    }
  }

  // MARK: - Forward

  /// A tape that keeps what `results` keeps.
  package func tape(_ graph: Graph, _ results: KeptResults?) -> Tape {
    Tape(graph, products: configuration.rounds ? .bfloat16 : .float32, results: results)
  }

  /// Token embeddings. Shapes: tokens I32 [n] → [d, n].
  package func embeddings(_ graph: Graph, _ tokens: Tensor) throws -> Tensor {
    let x = graph.rows(of: try weights.require("token_embd.weight"), tokens)
    return shape.embeddingScale == 1 ? x : graph.scale(x, shape.embeddingScale)
  }

  /// The final norm. Shapes: x [d, rows] → [d, rows].
  package func finalNorm(_ tape: Tape, _ x: Tensor) throws -> Tensor {
    tape.multiply(tape.rmsNorm(x, epsilon: shape.epsilon), try weights.require("output_norm.weight"))
  }

  /// What a block's attention needs to know of the micro-batch.
  package struct Places {
    /// I32 [n].
    package var positions: Tensor
    package var whole: AttentionBlocks
    package var windowed: AttentionBlocks?
    /// Dropout factors of each input width [columns, n]; empty drops none.
    package var masks: [Int: Tensor] = [:]
    /// False leaves the additions out.
    package var adds = true

    package init(positions: Tensor, whole: AttentionBlocks, windowed: AttentionBlocks?, masks: [Int: Tensor] = [:]) {
      self.positions = positions
      self.whole = whole
      self.windowed = windowed
      self.masks = masks
    }
  }

  /// One block. Shapes: x [d, n] → [d, n], or [d, rows] where `rows` (I32) chooses the rows that go on.
  package func block(_ tape: Tape, _ index: Int, _ x: Tensor, _ places: Places, rows: Tensor? = nil) -> Tensor {
    let block = blocks[index]
    let n = x[1]
    let isWindowed = shape.isWindowed(index)
    func norm(_ x: Tensor, _ name: String) -> Tensor {
      let normed = tape.rmsNorm(x, epsilon: shape.epsilon)
      return block.norms[name].map { tape.multiply(normed, $0) } ?? normed
    }
    func linear(_ x: Tensor, _ target: LoRAConfiguration.Target, keeps: Bool = true) -> Tensor {
      guard let weight = block.matrices[target] else { preconditionFailure("a block has every matrix") }
      var y = tape.projectFrozen(x, weight, keeps: keeps)
      if let bias = block.biases[target] { y = tape.shift(y, by: bias) }
      guard places.adds, configuration.targets.contains(target) else { return y }
      let a = parameters[Self.name(index, target, "a")]  // [k, r]
      let b = parameters[Self.name(index, target, "b")]  // [r, m]
      // A mask has a column for each row of the whole micro-batch.
      let mask = places.masks[x[0]].map { $0[1] == x[1] ? $0 : tape.graph.slice($0, 1, 0..<x[1]) }
      let dropped = mask.map { tape.multiply(x, $0) } ?? x
      let low = tape.project(dropped, a, keeps: true)  // [r, n]
      return tape.add(y, tape.scale(tape.project(low, b), configuration.alpha / Float(configuration.rank)))
    }
    func heads(_ x: Tensor, _ count: Int, _ normName: String) -> Tensor {  // [head, count, n]
      let split = tape.reshape(x, [shape.headSize, count, n])
      return shape.hasHeadNorms ? norm(split, normName) : split
    }
    func turned(_ x: Tensor) -> Tensor {
      let factors = weights["rope_freqs.weight"]
      return tape.rope(
        x, positions: places.positions, base: isWindowed ? shape.windowedRopeBase : shape.ropeBase,
        isNeoX: shape.isNeoX, scale: isWindowed ? 1 : shape.ropeScale, factors: factors)
    }

    let attentionInput = norm(x, "attn_norm")  // [d, n]
    let q = turned(heads(linear(attentionInput, .q), shape.heads, "attn_q_norm"))
    let k = turned(heads(linear(attentionInput, .k), shape.keyHeads, "attn_k_norm"))
    let v = tape.reshape(linear(attentionInput, .v), [shape.headSize, shape.keyHeads, n])
    let attended = tape.attention(
      q, k, v, isWindowed ? places.windowed ?? places.whole : places.whole, scale: shape.attentionScale)
    var mixed = tape.reshape(attended, [shape.headSize * shape.heads, n])
    var residual = x
    if let rows {
      mixed = tape.rows(mixed, rows)
      residual = tape.rows(x, rows)
    }
    var output = linear(mixed, .o)  // [d, rows]
    if shape.hasPostNorms { output = norm(output, "post_attention_norm") }
    let middle = tape.add(residual, output)

    let feedForwardInput = norm(middle, "ffn_norm")  // [d, rows]
    let gate = linear(feedForwardInput, .gate), up = linear(feedForwardInput, .up)  // [f, rows]
    let inner = shape.usesGELU ? tape.geglu(gate: gate, up: up) : tape.swiglu(gate: gate, up: up)
    // Nothing but the residual sum reads the last product where no norm follows.
    var down = linear(inner, .down, keeps: shape.hasPostNorms)
    if shape.hasPostNorms { down = norm(down, "post_ffw_norm") }
    return tape.add(middle, down)
  }
}
