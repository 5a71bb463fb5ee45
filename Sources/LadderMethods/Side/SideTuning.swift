import LadderBackbone
import LadderCompute
import LadderCore

extension SideConfiguration: FineTuning {
  package var name: String { passes > 1 || depth != nil ? "xladder" : "lst" }
  package var keepsActivations: Bool { true }
  package var preparation: String? { "measuring the taps' means and deviations" }

  package func validate() throws {
    func require(_ condition: Bool, _ message: String) throws { if !condition { throw LadderError(.usage, message) } }
    try require((0..<1).contains(tapDropout), "`tapDropout` is a share, from 0 up to 1")
    try require(gateTemperature > 0, "`gateTemperature` must be above 0")
  }

  private func geometry(_ model: ModelOutline) throws -> SideGeometry {
    try SideGeometry(self, backboneWidth: model.width, blocks: model.blocks)
  }

  package func outline(on model: ModelOutline) throws -> TuningOutline {
    let geometry = try geometry(model)
    let rungs = geometry.rungs.map(String.init).joined(separator: ", ")
    let free = geometry.layers - geometry.firstFree, note = free > 0 ? " (\(free) free)" : ""
    return TuningOutline(
      noun: "side network",
      text: "\(geometry.layers) layers\(note) of width \(geometry.width), rungs \(rungs) of \(model.blocks) blocks",
      rungs: geometry.rungs, width: geometry.width, layers: geometry.layers)
  }

  package func needs(on model: ModelOutline) throws -> TapNeeds { TapNeeds(rungs: try geometry(model).rungs) }

  package func parameters(on file: GGUFFile) throws -> [Parameters.Specification] {
    SideNetwork.specifications(self, try geometry(try ModelDimensions(file).outline))
  }

  package func learner(_ backbone: Backbone, maxTokens: Int, cache: ActivationCache?) throws -> any Learner {
    let geometry = try geometry(backbone.outline)
    let taps = try CachedTaps(backbone, TapNeeds(rungs: geometry.rungs), maxTokens: maxTokens, cache: cache)
    return try SideLearner(try SideNetwork(self, geometry, backbone.engine, trainable: true), taps, backbone)
  }

  package func predictor(_ backbone: Backbone, weights: String, folder: String) throws -> any Predictor {
    let network = try SideNetwork(self, try geometry(backbone.outline), backbone.engine, trainable: false)
    try network.restore(try Safetensors(path: weights), from: weights)
    return SidePredictor(network, backbone)
  }

  // MARK: - Cost

  package func memory(_ model: ModelDimensions, _ load: TrainingLoad) throws -> MemoryBreakdown {
    let geometry = try SideGeometry(self, backboneWidth: model.width, blocks: model.blocks)
    let length = load.length, lossRows = load.lossRows
    let wide = model.width, narrow = geometry.width
    let rows = AttentionBlocks.rounded(load.tokens)
    var bytes = model.shared(load)
    if geometry.rungs.last == model.blocks {
      // Every row is put out, and has logits in the engine.
      let put = Head.rowsPerCall(vocabulary: model.vocabulary)
      bytes.engine += 4 * model.vocabulary * (put - min(lossRows, put))
    }
    let count = SideNetwork.specifications(self, geometry).numbers
    // Value, gradient and two moments in F32, and the rounded twin.
    bytes.parameters = count * (16 + (precision == .float32 ? 0 : 2))
    // The graphs' own tables: some 60 nodes for each block of attention's rows, in the scheduler and, kept for the next
    // micro-batch of the same layout, for each layer.
    bytes.process += geometry.interval * (rows / 128 * 60 + 150) * 1400
    bytes.process += min(GraphSeries.tablesLimit, geometry.layers * (rows / 128 * 60 + 300) * 420)
    // BF16 taps; final rows, corrected in place, and their gradient; F32 states of the side layers, and the gradient of
    // one.
    let states = (geometry.layers - 1) / geometry.interval + geometry.interval + 1
    bytes.activations = 2 * geometry.rungs.count * wide * rows + 2 * 4 * wide * lossRows
    bytes.activations += 4 * narrow * (rows * states + lossRows)
    // What attention gave, and of a small micro-batch the products.
    bytes.activations += elementBytes * geometry.attentionWidth * rows * geometry.layers
    bytes.activations += productBytes(geometry, rows: rows)
    // Standardising some rows of a tap holds F32 copies of them, and dropout's mask.
    let standardising = 4 * (2 << 20)
    // One layer differentiated: its rows of the side width, the tap transposed, and a block of attention's rows.
    let layer =
      4 * SideGeometry.rowsOfOneLayer * narrow * rows + 2 * wide * rows + 4 * 5 * geometry.heads * 128 * length
    let up = 4 * wide * lossRows * 2
    bytes.workspace = max(standardising, layer, up)
    return bytes
  }

  package func serving(_ model: ModelDimensions) throws -> ServingLoad {
    let geometry = try geometry(model.outline)
    // Matrices as they enter products; keys and values of each layer in F32.
    return ServingLoad(
      weights: SideNetwork.specifications(self, geometry).reduce(0) { $0 + $1.count * ($1.decays ? elementBytes : 4) },
      rungs: geometry.rungs, stateBytesPerToken: 2 * 4 * geometry.attentionWidth * geometry.layers)
  }

  private var elementBytes: Int { precision == .float32 ? 4 : 2 }

  /// Bytes of every layer's products, which are kept for the backward pass as long as they are few; else 0.
  func productBytes(_ geometry: SideGeometry, rows: Int) -> Int {
    let perRow = 2 * geometry.width + 3 * geometry.attentionWidth + 2 * geometry.feedForward
    let bytes = elementBytes * perRow * rows * geometry.layers
    return bytes <= 8 << 20 ? bytes : 0
  }

  /// Through a matrix of N numbers a token costs 2N forward, 2N for the gradient of its input, 2N for the gradient of
  /// the matrix; each layer's inside is computed twice. Attention of T tokens costs 2·T·d forward a token and layer, on
  /// average.
  package func operations(_ model: ModelDimensions, _ load: TrainingLoad) throws -> Double {
    let geometry = try geometry(model.outline)
    let length = Double(load.length)
    let matrices = SideNetwork.specifications(self, geometry).filter(\.decays)
    let up = Double(geometry.width * model.width)
    let layers = Double(matrices.reduce(0) { $0 + $1.count }) - up
    let side = 8 * layers + 3.5 * 2 * length * Double(geometry.width * geometry.layers)
    return Double(load.tokens) * (model.forwardOperations(length: length) + side) + 6 * up * Double(load.lossRows)
  }

  package func seconds(_ model: ModelDimensions, _ load: TrainingLoad, on machine: any MeasuredMachine) throws -> Double
  {
    let geometry = try geometry(model.outline)
    // One layer on one rung stands for each.
    var one = self
    one.rungs = .list([1])
    one.passes = 1
    one.depth = nil
    one.free = nil
    one.cross = .reclimb
    one.reduction = Double(model.width) / Double(geometry.width)
    let measured = try machine.trainedPart(.ladder(one), length: load.length)
    let parameters = SideNetwork.specifications(self, geometry).numbers
    return Double(load.tokens) * (machine.forward(length: load.length) + Double(geometry.layers) * measured.perToken)
      + Double(parameters) * measured.optimiserPerParameter
  }
}
