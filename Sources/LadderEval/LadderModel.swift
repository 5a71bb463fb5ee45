import LadderBackbone
import LadderCompute
import LadderSide
import LadderTrain

/// A backbone, as it is, with a trained side network or with a QLoRA adapter, ready to evaluate and to generate.
///
/// Use it from one task at a time.
public final class LadderModel {
  public let backbone: Backbone
  package let network: SideNetwork?
  let adapter: EngineAdapter?

  /// - Parameter adapter: a run's folder; nil takes the backbone as it is.
  /// - Throws: `missing` or `data` where the run is not whole or was trained on another backbone.
  public init(_ backbone: Backbone, adapter: RunDirectory? = nil) throws {
    self.backbone = backbone
    switch try adapter?.load(backbone) {
    case .side(let network)?: (self.network, self.adapter) = (network, nil)
    case .adapter(let adapter)?: (network, self.adapter) = (nil, adapter)
    case nil: (network, self.adapter) = (nil, nil)
    }
  }

  package init(_ backbone: Backbone, network: SideNetwork?) {
    self.backbone = backbone
    self.network = network
    adapter = nil
  }

  var rungs: [Int] { network?.geometry.rungs ?? [] }
}
