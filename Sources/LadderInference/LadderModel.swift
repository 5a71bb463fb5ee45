import LadderBackbone
import LadderCore
import LadderMethods
import LadderTrain

/// A backbone, as it is or with what a run trained, ready to evaluate and to generate.
///
/// What it holds is never changed: several tasks may use it, and their computations take turns.
public final class LadderModel: @unchecked Sendable {
  /// The model that it builds on.
  public let backbone: Backbone
  package let predictor: any Predictor
  /// How it reads text: a run's conversations are rendered as it was trained.
  package let language: ModelVocabulary
  /// What its run was trained with of how conversations are rendered.
  package let chat: ChatSettings?

  /// - Parameter adapter: a run's folder; nil takes the backbone as it is.
  /// - Throws: `missing` or `data` where the run is not whole or was trained on another backbone.
  public init(_ backbone: Backbone, adapter: RunDirectory? = nil) throws(LadderError) {
    self.backbone = backbone
    (predictor, language, chat) = try LadderError.unify {
      guard let adapter else { return (BackbonePredictor(backbone), backbone.language, nil) }
      let predictor = try adapter.predictor(backbone), language = try backbone.language.separate()
      let chat = try adapter.manifest().configuration.chat
      language.use(chat)
      return (predictor, language, chat)
    }
  }

  package init(_ predictor: any Predictor) {
    backbone = predictor.backbone
    language = backbone.language
    chat = nil
    self.predictor = predictor
  }
}
