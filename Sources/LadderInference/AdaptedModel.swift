import LadderBackbone
import LadderCompute
import LadderMethods

/// What texts are generated with: the backbone alone, or with what a run trained. Texts of one and the same share what
/// it holds.
package final class AdaptedModel {
  package let predictor: any Predictor
  /// Whether no new text will be for it.
  var isForgotten = false
  private var made: (any DecoderCorrection)?

  package init(_ predictor: any Predictor) { self.predictor = predictor }

  /// The blocks that its correction reads.
  package var rungs: [Int] { predictor.alone == .beside ? predictor.rungs : [] }

  /// Made when it is first asked for, and kept.
  /// - Parameter memory: the loop's, for all models' steps.
  func correction(_ memory: GraphMemory) throws -> (any DecoderCorrection)? {
    if let made { return made }
    made = try predictor.correction(memory)
    return made
  }
}
