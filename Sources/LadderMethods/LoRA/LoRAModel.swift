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
  /// The blocks with additions, from 0. Those below are not here: their last one's output is where this begins.
  package let adapted: Range<Int>
  /// The blocks that are differentiated through: from the first with an addition to the last.
  package var blocks: Range<Int> { adapted.lowerBound..<shape.blocks }
  private let frozen: [Block]  // from `blocks.lowerBound` on
  private let ropeFactors: Tensor?

  private struct Block {
    var norms: [String: Tensor] = [:]
    /// By their names behind `blk.N.`.
    var matrices: [String: Tensor] = [:]
    var biases: [String: Tensor] = [:]
    var experts: ExpertWeights?
  }

  /// - Parameter maxTokens: the longest sample: some models' positions depend on the context that they are run in.
  package init(_ configuration: LoRAConfiguration, _ backbone: Backbone, maxTokens: Int = 0) throws {
    try configuration.validate()
    self.configuration = configuration
    let shape = try BlockShape(backbone.file)
    try shape.require(maxTokens: maxTokens, backbone.file)
    self.shape = shape
    let adapted = try configuration.adapted(of: shape.blocks)
    self.adapted = adapted
    engine = backbone.engine
    let weights = try FrozenWeights(backbone, firstBlock: adapted.lowerBound)
    self.weights = weights
    parameters = try Parameters(try Self.specifications(configuration, shape), backbone.engine, trainable: true)
    ropeFactors = weights["rope_freqs.weight"] ?? weights["rope_factors_short.weight"]
    frozen = try (adapted.lowerBound..<shape.blocks).map { index in
      let prefix = "blk.\(index)."
      var block = Block()
      let names =
        ["attn_norm", "ffn_norm"] + (shape.hasHeadNorms ? ["attn_q_norm", "attn_k_norm"] : [])
        + (shape.hasPostNorms ? ["post_attention_norm", "post_ffw_norm"] : [])
      for name in names { block.norms[name] = try weights.require(prefix + name + ".weight") }
      for matrix in shape.matrices {
        block.matrices[matrix.tensor] = try weights.require(prefix + matrix.tensor + ".weight")
        block.biases[matrix.tensor] = weights[prefix + matrix.tensor + ".bias"]
      }
      if let experts = shape.experts {
        block.experts = ExpertWeights(
          router: try weights.require(prefix + "ffn_gate_inp.weight"),
          gate: try weights.require(prefix + "ffn_gate_exps.weight"),
          up: try weights.require(prefix + "ffn_up_exps.weight"),
          down: try weights.require(prefix + "ffn_down_exps.weight"), used: experts.used, scale: experts.scale)
      }
      return block
    }
  }

  // MARK: - Parameters

  /// - Throws: `usage` where the model has none of the matrices that are asked for.
  package static func specifications(_ configuration: LoRAConfiguration, _ shape: BlockShape) throws -> [Parameters
    .Specification]
  {
    let matrices = shape.matrices(of: configuration.targets)
    guard !matrices.isEmpty else {
      throw LadderError(
        .usage, "`targets`: the blocks of \(shape.family.rawValue) have matrices of attention alone: q, k, v and o")
    }
    return try configuration.adapted(of: shape.blocks).flatMap { block in
      matrices.flatMap { matrix in
        [
          Parameters.Specification(name(block, matrix, "a"), [matrix.columns, configuration.rank]),
          Parameters.Specification(name(block, matrix, "b"), [configuration.rank, matrix.rows]),
        ]
      }
    }
  }

  static func name(_ block: Int, _ matrix: BlockShape.Matrix, _ part: String) -> String {
    "blk.\(block).\(matrix.tensor).lora_\(part)"
  }

  package func names(ofBlock block: Int) -> [String] {
    guard adapted.contains(block) else { return [] }
    return shape.matrices(of: configuration.targets).flatMap { [Self.name(block, $0, "a"), Self.name(block, $0, "b")] }
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
  package func tape(_ graph: Graph, _ results: KeptResults?, outputIsRead: Bool = true) -> Tape {
    Tape(
      graph, products: configuration.rounds ? .bfloat16 : .float32, results: results, outputIsRead: outputIsRead)
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

  /// One block, counted from 0 in the whole model. Shapes: x [d, n] → [d, n], or [d, rows] where `rows` (I32) chooses the rows that go on.
  package func block(_ tape: Tape, _ index: Int, _ x: Tensor, _ places: Places, rows: Tensor? = nil) -> Tensor {
    let block = frozen[index - blocks.lowerBound]
    let n = x[1]
    let isWindowed = shape.isWindowed(index)
    func norm(_ x: Tensor, _ name: String) -> Tensor {
      let normed = tape.rmsNorm(x, epsilon: shape.epsilon)
      return block.norms[name].map { tape.multiply(normed, $0) } ?? normed
    }
    func linear(_ x: Tensor, _ name: String, keeps: Bool = true, unreadAs standIn: Tensor? = nil) -> Tensor {
      guard let weight = block.matrices[name], let matrix = shape.matrices.first(where: { $0.tensor == name }) else {
        preconditionFailure("a block has every matrix of its shape")
      }
      var y = tape.projectFrozen(x, weight, keeps: keeps, unreadAs: standIn)
      if let bias = block.biases[name] { y = tape.shift(y, by: bias) }
      guard places.adds, adapted.contains(index), !matrix.targets.isDisjoint(with: configuration.targets) else {
        return y
      }
      let a = parameters[Self.name(index, matrix, "a")]  // [k, r]
      let b = parameters[Self.name(index, matrix, "b")]  // [r, m]
      // A mask has a column for each row of the whole micro-batch.
      let mask = places.masks[x[0]].map { $0[1] == x[1] ? $0 : tape.graph.slice($0, 1, 0..<x[1]) }
      let dropped = mask.map { tape.multiply(x, $0) } ?? x
      let low = tape.project(dropped, a, keeps: true)  // [r, n]
      return tape.add(y, tape.scale(tape.project(low, b), configuration.alpha / Float(configuration.rank)))
    }
    /// Several matrices of one input, or one that holds them on top of each other; `counts` are their rows.
    func linears(_ x: Tensor, _ names: [String], fused: String, _ counts: [Int]) -> [Tensor] {
      guard block.matrices[names[0]] == nil else { return names.map { linear(x, $0) } }
      let all = linear(x, fused)
      var start = 0
      return counts.map { count in
        defer { start += count }
        return tape.channels(start..<(start + count), of: all)
      }
    }
    func heads(_ x: Tensor, _ count: Int, _ normName: String) -> Tensor {  // [head, count, n]
      let split = tape.reshape(x, [shape.headSize, count, n])
      return shape.hasHeadNorms ? norm(split, normName) : split
    }
    func turned(_ x: Tensor) -> Tensor {
      tape.rope(
        x, positions: places.positions, base: isWindowed ? shape.windowedRopeBase : shape.ropeBase,
        isNeoX: shape.isNeoX, scale: isWindowed ? 1 : shape.ropeScale, dimensions: shape.ropeDimensions,
        factors: ropeFactors, magnitude: shape.ropeMagnitude)
    }
    func scaled(_ x: Tensor) -> Tensor { shape.residualScale == 1 ? x : tape.scale(x, shape.residualScale) }

    let attentionInput = norm(x, "attn_norm")  // [d, n]
    let queries = shape.headSize * shape.heads, keys = shape.headSize * shape.keyHeads
    let qkv = linears(attentionInput, ["attn_q", "attn_k", "attn_v"], fused: "attn_qkv", [queries, keys, keys])
    let q = turned(heads(qkv[0], shape.heads, "attn_q_norm"))
    let k = turned(heads(qkv[1], shape.keyHeads, "attn_k_norm"))
    let v = tape.reshape(qkv[2], [shape.headSize, shape.keyHeads, n])
    let attended = tape.attention(
      q, k, v, isWindowed ? places.windowed ?? places.whole : places.whole, scale: shape.attentionScale)
    var mixed = tape.reshape(attended, [shape.headSize * shape.heads, n])
    var residual = x
    if let rows {
      mixed = tape.rows(mixed, rows)
      residual = tape.rows(x, rows)
    }
    var output = linear(mixed, "attn_output")  // [d, rows]
    if shape.hasPostNorms { output = norm(output, "post_attention_norm") }
    let middle = tape.add(residual, scaled(output))

    let feedForwardInput = norm(middle, "ffn_norm")  // [d, rows]
    if let experts = block.experts { return tape.add(middle, scaled(tape.experts(feedForwardInput, experts))) }
    let size = shape.feedForward
    let parts = linears(feedForwardInput, ["ffn_gate", "ffn_up"], fused: "ffn_up", [size, size])  // each [f, rows]
    let inner =
      shape.usesGELU ? tape.geglu(gate: parts[0], up: parts[1]) : tape.swiglu(gate: parts[0], up: parts[1])
    // Nothing but the residual sum reads the last product where no norm follows.
    var down = linear(
      inner, "ffn_down", keeps: shape.hasPostNorms, unreadAs: shape.hasPostNorms ? nil : middle)
    if shape.hasPostNorms { down = norm(down, "post_ffw_norm") }
    return tape.add(middle, scaled(down))
  }
}
