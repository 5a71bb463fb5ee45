import LadderBackbone
import LadderCompute
import LadderCore
import LadderData

/// Low-rank additions inside the model: QLoRA. Where the first blocks have none, the backbone or its cache feeds it.
package final class LoRALearner: Learner {
  package let model: LoRAModel
  private let step: LoRAStep
  private let modelName: String
  /// Of the block below the first that has additions.
  private let taps: CachedTaps?

  /// - Parameters:
  ///   - maxTokens: the longest sample.
  ///   - cache: of what lies below the additions.
  package init(_ configuration: LoRAConfiguration, _ backbone: Backbone, maxTokens: Int, cache: ActivationCache? = nil)
    throws
  {
    // Before the blocks are read once more: the engine gives back those that it does not run.
    let needs = try configuration.needs(on: backbone.outline)
    taps = needs.rungs.isEmpty ? nil : try CachedTaps(backbone, needs, maxTokens: maxTokens, cache: cache)
    model = try LoRAModel(configuration, backbone, maxTokens: maxTokens)
    step = try LoRAStep(model)
    modelName = configuration.baseModel ?? BaseModelName.of(backbone.file)
  }

  package var parameters: Parameters { model.parameters }
  package var bytes: Int { step.bytes }

  package func initialise(seed: UInt64, _ samples: [PackedSample]) throws { model.initialise(seed: seed) }
  package var outputBias: Tensor? { nil }
  package func read(_ samples: [PackedSample], keeps: Bool) throws {
    func read() throws { try step.read(samples, from: taps) }
    try keeps ? read() : taps?.withoutKeeping(read) ?? read()
  }
  /// A forward pass of its own, without the additions.
  package func referenceRows() throws -> Tensor { try step.forward(keeps: false, adds: false) }
  package func forward(dropout: SeededRandom?) throws -> Tensor {
    try step.forward(dropout: dropout, keeps: dropout != nil)
  }
  package var gradientParts: [[String]] { step.gradientParts }
  package func backward(_ gradient: Tensor, finished: (Int) throws -> Void) throws {
    try step.backward(gradient, finished: finished)
  }

  package func export() -> Safetensors { parameters.export() }
  package func restore(_ file: Safetensors, from path: String) throws { try parameters.restore(file, from: path) }

  package var predictor: (any Predictor)? { nil }

  package func writeExtras(to folder: String) throws { try AdapterFiles(model).write(to: folder, modelName: modelName) }
}
