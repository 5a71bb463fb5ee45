import LadderBackbone
import LadderCompute
import LadderSide
import LadderTrain

/// A backbone, as it is or with a trained side network, ready to evaluate and to generate.
///
/// Use it from one task at a time.
public final class LadderModel {
  public let backbone: Backbone
  package let network: SideNetwork?

  /// - Parameter adapter: a run's folder; nil takes the backbone as it is.
  /// - Throws: `missing` or `data` where the run is not whole or was trained on another backbone.
  public init(_ backbone: Backbone, adapter: RunDirectory? = nil) throws {
    self.backbone = backbone
    network = try adapter?.load(backbone)
  }

  package init(_ backbone: Backbone, network: SideNetwork?) {
    self.backbone = backbone
    self.network = network
  }

  var rungs: [Int] { network?.geometry.rungs ?? [] }
}
