import LadderBackbone
import LadderCompute
import LadderCore

extension LoRAConfiguration: FineTuning {
  package var name: String { "qlora" }
  package var keepsActivations: Bool {
    switch blocks {
    case nil: false
    case .last: true
    case .range(let first, _): first > 1
    }
  }
  package var preparation: String? { nil }

  package func outline(on model: ModelOutline) throws -> TuningOutline {
    let names = targets.map(\.rawValue).joined(separator: ", "), adapted = try adapted(of: model.blocks)
    let place =
      blocks == nil
      ? "\(model.blocks) blocks" : "blocks \(adapted.lowerBound + 1) to \(adapted.upperBound) of \(model.blocks)"
    return TuningOutline(
      noun: "adapter", text: "rank \(rank), alpha \(alpha), on \(names) of \(place)",
      rungs: adapted.lowerBound > 0 ? [adapted.lowerBound] : [])
  }

  package func needs(on model: ModelOutline) throws -> TapNeeds {
    TapNeeds(rungs: try outline(on: model).rungs, readsFinal: false, format: .f32)
  }

  package func parameters(on file: GGUFFile) throws -> [Parameters.Specification] {
    try LoRAModel.specifications(self, try BlockShape(file))
  }

  package func learner(_ backbone: Backbone, maxTokens: Int, cache: ActivationCache?) throws -> any Learner {
    try LoRALearner(self, backbone, maxTokens: maxTokens, cache: cache)
  }

  /// llama.cpp applies the adapter.
  package func predictor(_ backbone: Backbone, weights: String, folder: String) throws -> any Predictor {
    let path = FileSet.current(AdapterFiles.gguf, in: folder)
    return BackbonePredictor(backbone, adapter: try EngineAdapter(path: path, backbone))
  }

  // MARK: - Cost

  /// The backward pass keeps each block's activations, or with checkpointing each block's input and one block's inside.
  package func memory(_ model: ModelDimensions, _ load: TrainingLoad) throws -> MemoryBreakdown {
    let length = load.length
    let tokens = load.tokens, lossRows = load.lossRows
    let adapted = try adapted(of: model.blocks), inside = try differentiated(of: model.blocks)
    let width = model.width, feedForward = model.feedForward
    let queries = model.heads * model.headSize, keys = model.keyHeads * model.headSize
    var bytes = model.shared(load)
    bytes.parameters = 16 * adapted.count * parametersOfBlock(model)
    // Each block's input in F32; without checkpointing the results of its products and of attention in BF16.
    bytes.activations = 4 * tokens * width * (inside + 1) + 3 * 4 * width * lossRows
    if !checkpointing {
      // Width: of attention's output, and of the second half's, where a norm stands behind it.
      let kept = 2 * queries + 2 * keys + 2 * width + 2 * feedForward + 7 * rank
      bytes.activations += 2 * tokens * kept * inside
    }
    // One block in the backward pass: its results again and their gradients in F32, some of a weight in F32 and BF16,
    // and a block of attention's rows.
    let block = 4 * tokens * (8 * width + 4 * queries + 4 * keys + 6 * feedForward)
    // Experts are dequantised all at once.
    let dequantised = (model.experts.map { $0.count * width * $0.width } ?? min(width * feedForward, 8 << 20)) * 6
    bytes.workspace = block + dequantised + 4 * 5 * model.heads * 128 * length
    if dropout > 0 { bytes.workspace += 4 * tokens * inputWidths(model).reduce(0, +) }
    bytes.process += (length / 128 * 60 + 400) * 1800
    // The head is packed as for a side network. llama.cpp's engine is there only where it runs what lies below; the memory
    // of the blocks with additions it gives back.
    if adapted.lowerBound == 0 {
      bytes.engine = 0
    } else {
      let rows = min(lossRows, Head.rowsPerCall(vocabulary: model.vocabulary))
      bytes.engine += 4 * model.vocabulary * (ForwardPass.textsWithoutRows - rows)
    }
    return bytes
  }

  /// llama.cpp holds the adapter in F32.
  package func serving(_ model: ModelDimensions) throws -> ServingLoad {
    ServingLoad(weights: 4 * (try adapted(of: model.blocks)).count * parametersOfBlock(model), hasContext: true)
  }

  /// Forward, the gradient of the inputs through frozen weights, attention's twice over; with checkpointing the forward
  /// pass again.
  package func operations(_ model: ModelDimensions, _ load: TrainingLoad) throws -> Double {
    let length = Double(load.length)
    let adapted = try adapted(of: model.blocks)
    let share = Double(try differentiated(of: model.blocks)) / Double(model.blocks)
    let forward = model.forwardOperations(length: length)
    let backward = 2 * Double(model.blockNumbers) + 2.5 * model.attentionOperations(length: length)
    return Double(load.tokens)
      * (forward * (checkpointing ? 1 + share : 1) + backward * share
        + 6 * Double(adapted.count * parametersOfBlock(model)))
  }

  /// The engine's forward pass below the additions, and from there forward and back as measured with additions in every
  /// block.
  package func seconds(_ model: ModelDimensions, _ load: TrainingLoad, on machine: any MeasuredMachine) throws -> Double
  {
    let inside = try differentiated(of: model.blocks)
    var all = self
    all.blocks = nil
    let measured = try machine.trainedPart(.lora(all), length: load.length)
    let below = machine.forward(length: load.length) * Double(model.blocks - inside) / Double(model.blocks)
    return Double(load.tokens) * (below + measured.perToken * Double(inside) / Double(machine.blocks))
      + Double((try adapted(of: model.blocks)).count * parametersOfBlock(model)) * measured.optimiserPerParameter
  }

  /// How many blocks a gradient goes through.
  private func differentiated(of blocks: Int) throws -> Int { blocks - (try adapted(of: blocks)).lowerBound }

  /// Widths that additions read, for each of which there is a dropout mask.
  private func inputWidths(_ model: ModelDimensions) -> Set<Int> {
    Set(
      targets.map {
        switch $0 {
        case .q, .k, .v, .gate, .up: model.width
        case .o: model.heads * model.headSize
        case .down: model.feedForward
        }
      })
  }

  private func parametersOfBlock(_ model: ModelDimensions) -> Int {
    let queries = model.heads * model.headSize, keys = model.keyHeads * model.headSize
    return targets.reduce(0) { sum, target in
      switch target {
      case .q, .o: sum + rank * (model.width + queries)
      case .k, .v: sum + rank * (model.width + keys)
      // Experts stay as they are.
      case .gate, .up, .down: sum + (model.experts == nil ? rank * (model.width + model.feedForward) : 0)
      }
    }
  }
}
