import LadderBackbone
import LadderMethods
import LadderTrain

/// A backbone, as it is or with what a run trained, ready to evaluate and to generate.
///
/// Use it from one task at a time.
public final class LadderModel {
  public let backbone: Backbone
  package let predictor: any Predictor

  /// - Parameter adapter: a run's folder; nil takes the backbone as it is.
  /// - Throws: `missing` or `data` where the run is not whole or was trained on another backbone.
  public init(_ backbone: Backbone, adapter: RunDirectory? = nil) throws {
    self.backbone = backbone
    predictor = try adapter?.predictor(backbone) ?? BackbonePredictor(backbone)
  }

  package init(_ predictor: any Predictor) {
    backbone = predictor.backbone
    self.predictor = predictor
  }
}
