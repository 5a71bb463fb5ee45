import LadderBackbone
import LadderMethods

/// What a `GenerationEngine` takes at its peak, in bytes, from shapes alone: each part as the code that allocates it sizes
/// it, when as many texts as fit hold as many tokens as fit.
public struct GenerationMemory: Codable, Sendable, Equatable {
  /// The program, the tokenizer's tables and the graphs' own tables.
  public var process = 0
  /// The model's.
  public var weights = 0
  /// The engine's keys and values, activations and output rows: of one context for the model and all side networks, and
  /// of one for each run that changes the model.
  public var contexts = 0
  /// What was trained.
  public var runs = 0
  /// What is kept of texts beside keys and values: what the rungs gave, and side networks' own keys and values.
  public var texts = 0
  /// The logits of a step.
  public var head = 0

  public var total: Int { process + weights + contexts + runs + texts + head }

  enum CodingKeys: String, CodingKey { case process, weights, contexts, runs, texts, head }

  package init(_ model: ModelDimensions, _ settings: GenerationEngine.Settings, _ served: [ServingLoad]) {
    let tokens = settings.capacity(trainedOn: model.contextLength)
    let isWindowed = model.isWindowed, beside = served.filter { !$0.hasContext }
    process = (64 << 20) + model.tokenizerBytes
    weights = model.weightsBytes
    // A sliding window keeps all: any beginning can be gone on from. Each kind of block has a mask.
    let cells = ModelDimensions.cells(tokens: tokens)
    let activations = model.engineActivations(cells: cells, masks: isWindowed ? 2 : 1)
    // What the last block hands on is put out for every row.
    let rungs = Set(beside.flatMap(\.rungs)), readsLast = rungs.contains(model.blocks)
    let put = readsLast ? Head.rowsPerCall(vocabulary: model.vocabulary) : settings.texts
    let rows = max(put, isWindowed ? 2 * settings.texts : 0)
    let one = model.keyBytesPerToken * model.blocks * cells + activations + 4 * model.vocabulary * rows
    contexts = one * (1 + served.count { $0.hasContext })
    runs = served.reduce(0) { $0 + $1.weights }
    // Rows of BF16, and states with room for half as many again, in steps of 256.
    let state = beside.map(\.stateBytesPerToken).max() ?? 0
    texts = (2 * model.width * rungs.count + state) * tokens * 3 / 2 + 256 * settings.texts * state
    head = 4 * model.vocabulary * settings.texts + 12 * model.vocabulary
  }
}
