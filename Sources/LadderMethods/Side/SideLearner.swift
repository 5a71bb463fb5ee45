import LadderBackbone
import LadderCompute
import LadderCore
import LadderData

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
    let rows = network.configuration.statisticsRows ?? .tokens
    try network.setStatistics(
      try taps.statistics(TapStatistics.measured(samples, over: rows), over: rows, of: backbone))
  }

  package var outputBias: Tensor? { network.outputBias }
  package func read(_ samples: [PackedSample], keeps: Bool) throws {
    func read() throws { try step.read(samples, from: taps) }
    try keeps ? read() : taps.withoutKeeping(read)
  }
  package func referenceRows() throws -> Tensor { step.finalRows }
  package func forward(dropout: SeededRandom?) throws -> Tensor { try step.forward(dropout: dropout) }
  package var gradientParts: [[String]] { step.gradientParts }
  package func backward(_ gradient: Tensor, finished: (Int) throws -> Void) throws {
    try step.backward(gradient, finished: finished)
  }
  package func export() -> Safetensors { network.export() }
  package func restore(_ file: Safetensors, from path: String) throws { try network.restore(file, from: path) }
  package func writeExtras(to folder: String) throws {}
  package var predictor: (any Predictor)? { SidePredictor(network, backbone) }
}
