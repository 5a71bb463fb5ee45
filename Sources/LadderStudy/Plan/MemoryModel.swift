import LadderBackbone
import LadderCompute
import LadderSide

/// The peak memory of training, from shapes alone: each part as the code that allocates it sizes it.
public struct MemoryModel: Sendable {
  /// Bytes of one method at one length.
  public struct Breakdown: Codable, Sendable, Equatable {
    /// The program, the tokenizer's tables and the graphs' own tables.
    public var process = 0
    public var weights = 0
    /// The engine's keys and values, activations and output rows.
    public var engine = 0
    /// Taps, final rows and the side layers' outputs; for QLoRA the activations that its backward pass keeps.
    public var activations = 0
    /// Trained parameters, their gradients and the optimiser's state.
    public var parameters = 0
    /// What one layer's backward pass needs at a time.
    public var workspace = 0
    /// The head's chunk of logits, its gradient, and its packed copy.
    public var head = 0

    public var total: Int { process + weights + engine + activations + parameters + workspace + head }
  }

  let model: ModelDimensions

  public init(_ model: ModelDimensions) { self.model = model }

  /// LST and xLadder.
  /// - Parameters:
  ///   - length: tokens of the longest sample; the micro-batch holds at least as many.
  ///   - tokens: tokens of a micro-batch.
  ///   - lossRows: rows of a micro-batch that carry loss.
  func ladder(_ configuration: SideConfiguration, _ geometry: SideGeometry, length: Int, tokens: Int, lossRows: Int) -> Breakdown {
    let d = model.width, w = geometry.width, n = AttentionBlocks.rounded(tokens)
    var b = common(length: length, lossRows: lossRows)
    let count = SideNetwork.specifications(configuration, geometry).reduce(0) { $0 + $1.count }
    // Value, gradient and two moments in F32, and the rounded twin.
    b.parameters = count * (16 + (configuration.precision == .float32 ? 0 : 2))
    // The graphs' own tables: some 60 nodes for each block of attention's rows, in the scheduler and, kept for the next micro-batch
    // of the same layout, for each layer.
    b.process += geometry.interval * (n / 128 * 60 + 150) * 1400
    b.process += min(GraphSeries.tablesLimit, geometry.layers * (n / 128 * 60 + 300) * 420)
    // BF16 taps; final rows, corrected in place, and their gradient; F32 states of the side layers, and the gradient of one.
    b.activations = 2 * geometry.rungs.count * d * n + 2 * 4 * d * lossRows
    b.activations += 4 * w * (n * ((geometry.layers - 1) / geometry.interval + geometry.interval + 1) + lossRows)
    // What attention gave.
    b.activations += (configuration.precision == .float32 ? 4 : 2) * geometry.attentionWidth * n * geometry.layers
    // Standardising some rows of a tap holds F32 copies of them, and dropout's mask.
    let standardising = 4 * (2 << 20)
    // One layer differentiated: its rows of the side width, the tap transposed, and a block of attention's rows.
    let layer = 4 * SideGeometry.rowsOfOneLayer * w * n + 2 * d * n + 4 * 5 * geometry.heads * 128 * length
    let up = 4 * d * lossRows * 2
    b.workspace = max(standardising, layer, up)
    return b
  }

  /// QLoRA on the same engine: the backward pass keeps each block's activations, or with checkpointing each block's input and one
  /// block's inside.
  func qlora(rank: Int, checkpointing: Bool, length: Int, tokens: Int, lossRows: Int) -> Breakdown {
    let d = model.width, f = model.feedForward, q = model.heads * model.headSize, k = model.keyHeads * model.headSize
    var b = common(length: length, lossRows: lossRows)
    let perBlock = rank * ((d + q) + 2 * (d + k) + (q + d) + 2 * (d + f) + (f + d))
    b.parameters = 16 * model.blocks * perBlock
    // Each block's input in F32; without checkpointing the results of its products and of attention in BF16.
    b.activations = 4 * tokens * d * (model.blocks + 1) + 3 * 4 * d * lossRows
    if !checkpointing { b.activations += 2 * tokens * (2 * q + 2 * k + d + 2 * f + 7 * rank) * model.blocks }
    // One block in the backward pass: its results again and their gradients in F32, some of a weight in F32 and BF16, and a block of
    // attention's rows.
    let dequantised = min(d * f, 8 << 20) * 6
    b.workspace = 4 * tokens * (8 * d + 4 * q + 4 * k + 6 * f) + dequantised + 4 * 5 * model.heads * 128 * length
    b.process += (length / 128 * 60 + 400) * 1800
    // The head is packed as for a side network; llama.cpp's engine is not there.
    b.engine = 0
    return b
  }

  private func common(length: Int, lossRows: Int) -> Breakdown {
    var b = Breakdown()
    let d = model.width, f = model.feedForward, unit = 512, context = (max(unit, length) + 255) / 256 * 256
    b.process = (36 << 20) + 150 * model.vocabulary
    b.weights = model.weightsBytes
    let perBlock = 2 * 2 * model.keyHeads * model.headSize
    // A windowed model keeps one block in six whole (Gemma 3's pattern); the others a window and a call's tokens.
    let windowed = min(context, ((model.window ?? context) + unit + 255) / 256 * 256)
    let whole = model.window == nil ? model.blocks : (model.blocks + 5) / 6
    let cache = perBlock * (whole * context + (model.blocks - whole) * windowed)
    let rowsPerCall = min(lossRows, Head.rowsPerCall(vocabulary: model.vocabulary))
    let activations = 4 * unit * (4 * d + 2 * f + 2 * model.heads * model.headSize) + 6 * unit * context
    b.engine = cache + activations + 4 * model.vocabulary * rowsPerCall
    b.head = VocabularyScan.bytes(width: d, vocabulary: model.vocabulary, rows: lossRows)
    if VocabularyScan.packs(bytes: model.headBytes, type: model.headType) { b.head += model.headBytes }
    return b
  }
}
