import LadderBackbone
import LadderCompute

/// The peak memory of training, in bytes, from shapes alone: each part as the code that allocates it sizes it.
package struct MemoryBreakdown: Codable, Sendable, Equatable {
  /// The program, the tokenizer's tables and the graphs' own tables.
  package var process = 0
  package var weights = 0
  /// The engine's keys and values, activations and output rows.
  package var engine = 0
  /// Taps, final rows and the side layers' outputs; for QLoRA the activations that its backward pass keeps.
  package var activations = 0
  /// Trained parameters, their gradients and the optimiser's state.
  package var parameters = 0
  /// What one layer's backward pass needs at a time.
  package var workspace = 0
  /// The head's chunk of logits, its gradient, and its packed copy.
  package var head = 0

  package var total: Int { process + weights + engine + activations + parameters + workspace + head }
}

/// What answering with a method takes beside the model.
package struct ServingLoad: Sendable, Equatable {
  /// Bytes of what was trained.
  package var weights: Int
  /// The blocks that it reads.
  package var rungs: [Int] = []
  /// Bytes that it keeps of each token of a text.
  package var stateBytesPerToken = 0
  /// Whether it changes the model's keys and values: its texts have a context of their own.
  package var hasContext = false

  package init(weights: Int, rungs: [Int] = [], stateBytesPerToken: Int = 0, hasContext: Bool = false) {
    self.weights = weights
    self.rungs = rungs
    self.stateBytesPerToken = stateBytesPerToken
    self.hasContext = hasContext
  }
}

extension ModelDimensions {
  /// Bytes of keys and values in F16 that a block keeps of a token.
  package var keyBytesPerToken: Int { 2 * 2 * keyHeads * headSize }

  /// Tokens of one call of the engine.
  private static var unit: Int { 512 }

  /// The keys and values that a context of so many tokens has room for.
  package static func cells(tokens: Int) -> Int { (max(unit, tokens) + 255) / 256 * 256 }

  /// Bytes that the engine works in over so many cells.
  /// - Parameter masks: of attention, each in F32 and F16.
  package func engineActivations(cells: Int, masks: Int = 1) -> Int {
    4 * Self.unit * (4 * width + 2 * feedForward + 2 * heads * headSize) + 6 * Self.unit * cells * masks
  }

  /// Bytes of the tokenizer's tables.
  package var tokenizerBytes: Int { 150 * vocabulary }

  /// What every method takes: the process, the weights, the engine and the head.
  package func shared(_ load: TrainingLoad) -> MemoryBreakdown {
    let model = self, length = load.length, lossRows = load.lossRows
    var breakdown = MemoryBreakdown()
    let width = model.width, context = Self.cells(tokens: length)
    breakdown.process = (36 << 20) + model.tokenizerBytes
    breakdown.weights = model.weightsBytes
    // A windowed block keeps a window of each text that a call may hold, and a call's tokens.
    let rowsPerCall = Head.rowsPerCall(vocabulary: model.vocabulary), texts = min(ForwardPass.mostTexts, rowsPerCall)
    let windowed = min(context, ((model.window ?? context) * texts + Self.unit + 255) / 256 * 256)
    let whole = model.wholeBlocks
    let cache = model.keyBytesPerToken * (whole * context + (model.blocks - whole) * windowed)
    let logits = 4 * model.vocabulary * min(lossRows, rowsPerCall), masks = model.isWindowed ? 2 : 1
    breakdown.engine = cache + model.engineActivations(cells: context, masks: masks) + logits
    breakdown.head = VocabularyScan.bytes(width: width, vocabulary: model.vocabulary, rows: lossRows)
    if VocabularyScan.packs(bytes: model.headBytes, type: model.headType, width: width) {
      breakdown.head += model.headBytes
    }
    return breakdown
  }
}
