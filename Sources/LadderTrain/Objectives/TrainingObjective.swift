import LadderBackbone
import LadderCompute
import LadderData
import LadderMethods

/// What training makes small: rows and a batch give the summed loss and its gradient.
package protocol TrainingObjective: AnyObject {
  /// Bytes that it works in.
  var bytes: Int { get }
  /// What an example counts in the mean loss.
  func weight(_ example: TrainingExample) -> Int
  /// Called before what is trained runs on a micro-batch that `learner` has read.
  func prepare(_ examples: [TrainingExample], _ learner: any Learner) throws
  /// The losses' sum over the examples' weights.
  /// - Parameters:
  ///   - rows: the head's input at the examples' loss rows, one after another: [d, rows] F32.
  ///   - gradient: [d, rows] F32, filled with `scale` × dΣloss/drows; nil where no gradient is asked for.
  ///   - seed: of what is drawn.
  func evaluate(_ rows: Tensor, _ examples: [TrainingExample], gradient: Tensor?, scale: Float, seed: UInt64) throws
    -> Double
}

extension TrainingConfiguration {
  /// The objective that the settings name: the one list of them.
  func objective(_ backbone: Backbone) throws -> any TrainingObjective {
    let loss = try CrossEntropy(backbone, dense: !filtersGradient)
    switch objective ?? .tokens {
    case .tokens, .choices: return LikelihoodObjective(loss, backbone)
    case .preference: return try PreferenceObjective(preference ?? PreferenceSettings(), loss, backbone)
    }
  }
}
