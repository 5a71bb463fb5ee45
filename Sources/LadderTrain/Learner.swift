import LadderBackbone
import LadderCompute
import LadderLoRA
import LadderSide

/// What a session trains, and how a micro-batch goes through it: a side network on the frozen model's taps, or low-rank additions
/// inside the model.
package protocol Learner: AnyObject {
  var parameters: Parameters { get }
  /// Bytes that a micro-batch's activations and graphs take.
  var bytes: Int { get }
  /// Sets the parameters to their starting values, knowing the first samples.
  func initialise(seed: UInt64, _ samples: [PackedSample]) throws
  /// The bias on the head's input, [d], where there is one.
  var outputBias: Tensor? { get }
  /// Takes a micro-batch in; a side network's backbone runs here.
  /// - Parameter keeps: whether a cache may store what the backbone computes.
  func read(_ samples: [PackedSample], keeps: Bool) throws
  /// The head's input at the loss rows, [d, rows]. `dropout` nil is for judging: nothing is dropped, and `backward` does not follow.
  func forward(dropout: SeededRandom?) throws -> Tensor
  /// Adds the parameters' gradients to their buffers. Shapes: gradient [d, rows], with respect to what `forward` returned.
  func backward(_ gradient: Tensor) throws
  /// The weights and all that is needed to use them.
  func export() -> Safetensors
  func restore(_ file: Safetensors, from path: String) throws
  /// Writes files for other programs beside the weights.
  func writeExtras(to folder: String) throws
}

extension Learner {
  package func read(_ samples: [PackedSample]) throws { try read(samples, keeps: true) }
}

/// A side network, fed by the backbone or its cache.
package final class SideLearner: Learner {
  package let network: SideNetwork
  package let taps: CachedTaps
  private let step: SideStep
  private let backbone: Backbone

  package init(_ network: SideNetwork, _ taps: CachedTaps, _ backbone: Backbone) throws {
    self.network = network
    self.taps = taps
    self.backbone = backbone
    step = try SideStep(network, backbone)
  }

  package var parameters: Parameters { network.parameters }
  package var bytes: Int { step.bytes }

  package func initialise(seed: UInt64, _ samples: [PackedSample]) throws {
    try network.initialise(seed: seed, backbone: backbone)
    try network.setStatistics(try taps.statistics(Array(samples.prefix(256)), over: network.configuration.statisticsRows ?? .tokens))
  }

  package var outputBias: Tensor? { network.outputBias }
  package func read(_ samples: [PackedSample], keeps: Bool) throws {
    func read() throws { try step.read(samples, from: taps) }
    try keeps ? read() : taps.withoutKeeping(read)
  }
  package func forward(dropout: SeededRandom?) throws -> Tensor { try step.forward(dropout: dropout) }
  package func backward(_ gradient: Tensor) throws { try step.backward(gradient) }
  package func export() -> Safetensors { network.export() }
  package func restore(_ file: Safetensors, from path: String) throws { try network.restore(file, from: path) }
  package func writeExtras(to folder: String) throws {}
}

/// Low-rank additions inside the model: QLoRA.
package final class LoRALearner: Learner {
  package let model: LoRAModel
  private let step: LoRAStep
  private let modelName: String

  package init(_ configuration: LoRAConfiguration, _ backbone: Backbone) throws {
    model = try LoRAModel(configuration, backbone)
    step = try LoRAStep(model)
    modelName = backbone.file.name ?? backbone.path
  }

  package var parameters: Parameters { model.parameters }
  package var bytes: Int { step.bytes }

  package func initialise(seed: UInt64, _ samples: [PackedSample]) throws { model.initialise(seed: seed) }
  package var outputBias: Tensor? { nil }
  package func read(_ samples: [PackedSample], keeps: Bool) throws { try step.read(samples) }
  package func forward(dropout: SeededRandom?) throws -> Tensor { try step.forward(dropout: dropout, keeps: dropout != nil) }
  package func backward(_ gradient: Tensor) throws { try step.backward(gradient) }

  package func export() -> Safetensors { parameters.export() }
  package func restore(_ file: Safetensors, from path: String) throws { try parameters.restore(file, from: path) }

  package func writeExtras(to folder: String) throws { try AdapterFiles(model).write(to: folder, modelName: modelName) }
}
