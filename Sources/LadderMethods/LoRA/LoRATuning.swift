import LadderBackbone
import LadderCompute
import LadderCore

extension LoRAConfiguration: FineTuning {
  package var name: String { "qlora" }
  package var keepsActivations: Bool { false }
  package var preparation: String? { nil }

  package func outline(on model: ModelOutline) throws -> TuningOutline {
    let names = targets.map(\.rawValue).joined(separator: ", ")
    return TuningOutline(noun: "adapter", text: "rank \(rank), alpha \(alpha), on \(names) of \(model.blocks) blocks")
  }

  package func parameters(on file: GGUFFile) throws -> [Parameters.Specification] {
    LoRAModel.specifications(self, try BlockShape(file))
  }

  package func learner(_ backbone: Backbone, maxTokens: Int, cache: ActivationCache?) throws -> any Learner {
    try LoRALearner(self, backbone)
  }

  /// llama.cpp applies the adapter.
  package func predictor(_ backbone: Backbone, weights: String, folder: String) throws -> any Predictor {
    BackbonePredictor(backbone, adapter: try EngineAdapter(path: "\(folder)/\(AdapterFiles.gguf)", backbone))
  }

  // MARK: - Cost

  /// The backward pass keeps each block's activations, or with checkpointing each block's input and one block's inside.
  package func memory(_ model: ModelDimensions, _ load: TrainingLoad) throws -> MemoryBreakdown {
    let length = load.length, tokens = load.tokens, lossRows = load.lossRows
    let d = model.width, f = model.feedForward, q = model.heads * model.headSize, k = model.keyHeads * model.headSize
    var b = model.shared(load)
    b.parameters = 16 * model.blocks * parametersOfBlock(model)
    // Each block's input in F32; without checkpointing the results of its products and of attention in BF16.
    b.activations = 4 * tokens * d * (model.blocks + 1) + 3 * 4 * d * lossRows
    if !checkpointing { b.activations += 2 * tokens * (2 * q + 2 * k + d + 2 * f + 7 * rank) * model.blocks }
    // One block in the backward pass: its results again and their gradients in F32, some of a weight in F32 and BF16,
    // and a block of attention's rows.
    let dequantised = min(d * f, 8 << 20) * 6
    b.workspace = 4 * tokens * (8 * d + 4 * q + 4 * k + 6 * f) + dequantised + 4 * 5 * model.heads * 128 * length
    b.process += (length / 128 * 60 + 400) * 1800
    // The head is packed as for a side network; llama.cpp's engine is not there.
    b.engine = 0
    return b
  }

  /// Forward, the gradient of the inputs through frozen weights, attention's twice over; with checkpointing the forward
  /// pass again.
  package func operations(_ model: ModelDimensions, _ load: TrainingLoad) throws -> Double {
    let length = Double(load.length), forward = model.forwardOperations(length: length)
    let backward = 2 * Double(model.blockNumbers) + 2.5 * model.attentionOperations(length: length)
    return Double(load.tokens)
      * (forward * (checkpointing ? 2 : 1) + backward + 6 * Double(model.blocks * parametersOfBlock(model)))
  }

  /// A forward pass, and a backward pass of twice the products on dequantised weights; with checkpointing another
  /// forward.
  package func seconds(_ model: ModelDimensions, _ load: TrainingLoad, on machine: any MeasuredMachine) throws -> Double
  {
    Double(load.tokens) * machine.forward(length: load.length) * (checkpointing ? 4.5 : 3.5)
  }

  private func parametersOfBlock(_ model: ModelDimensions) -> Int {
    let d = model.width, f = model.feedForward, q = model.heads * model.headSize, k = model.keyHeads * model.headSize
    return targets.reduce(0) { sum, target in
      switch target {
      case .q, .o: sum + rank * (d + q)
      case .k, .v: sum + rank * (d + k)
      case .gate, .up, .down: sum + rank * (d + f)
      }
    }
  }
}
