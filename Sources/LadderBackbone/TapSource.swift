import LadderCompute
import LadderData

/// Where taps and final rows come from.
package protocol TapSource: AnyObject {
  /// The tapped blocks, 1-based.
  var rungs: [Int] { get }
  /// Fills, for whole samples, one BF16 [width, tokens of all samples] per rung and F32 [width, loss rows of all
  /// samples].
  func run(_ samples: [PackedSample], taps: [Tensor], final: Tensor?) throws
}
