import LadderCompute
import LadderData

/// What a method reads of the frozen model's activations.
package struct TapNeeds: Sendable, Equatable {
  /// The tapped blocks, 1-based.
  package var rungs: [Int]
  /// Whether the final norm's rows are read too.
  package var readsFinal = true
  /// Whether the engine ends there.
  package var endsAtLastTap: Bool { !readsFinal && !rungs.isEmpty }
  /// How taps are stored where nothing else is asked for: in the type in which they are read.
  package var format = CacheFormat.bf16

  package init(rungs: [Int], readsFinal: Bool = true, format: CacheFormat = .bf16) {
    self.rungs = rungs
    self.readsFinal = readsFinal
    self.format = format
  }
}

/// Where taps and final rows come from.
package protocol TapSource: AnyObject {
  /// The tapped blocks, 1-based.
  var rungs: [Int] { get }
  /// Whether its taps are to be taken in BF16: it keeps no more of them.
  var roundsTaps: Bool { get }
  /// Fills, for whole samples, one BF16 or F32 [width, tokens of all samples] per rung and F32 [width, loss rows of all
  /// samples].
  func run(_ samples: [PackedSample], taps: [Tensor], final: Tensor?) throws
}

extension TapSource {
  package var roundsTaps: Bool { false }
}
