import LadderBackbone
import LadderCompute
import LadderData

/// The backbone with a side network.
package final class SidePredictor: Predictor {
  package let network: SideNetwork
  package let backbone: Backbone
  package var rungs: [Int] { network.geometry.rungs }
  package let keepsActivations = true
  package let alone = AloneRows.beside

  package init(_ network: SideNetwork, _ backbone: Backbone) {
    self.network = network
    self.backbone = backbone
  }

  package func reader(maxTokens: Int, cache: ActivationCache?) throws -> any RowReader {
    SideRows(
      try SideStep(network, backbone),
      try CachedTaps(backbone, TapNeeds(rungs: rungs), maxTokens: maxTokens, cache: cache))
  }

  package var adapter: EngineAdapter? { nil }

  package func correction(_ memory: GraphMemory) throws -> (any DecoderCorrection)? {
    try SideCorrection(network, memory)
  }
}

private final class SideRows: RowReader {
  private let step: SideStep
  private let taps: CachedTaps

  init(_ step: SideStep, _ taps: CachedTaps) {
    self.step = step
    self.taps = taps
  }

  func rows(_ samples: [PackedSample], alone: ((Tensor) throws -> Void)?) throws -> Tensor {
    try step.read(samples, from: taps)
    try alone?(step.finalRows)
    return try step.forward()
  }
}
