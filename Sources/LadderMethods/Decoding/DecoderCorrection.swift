import LadderBackbone
import LadderCompute

/// What a method adds to the head's input while texts are decoded step by step. It keeps a state of its own for each
/// text, as the backbone keeps its keys and values, and changes nothing of the backbone's: texts of several methods may
/// share the backbone's passes, and what it holds of a common beginning.
package protocol DecoderCorrection: AnyObject {
  /// The state of a text of which nothing was read yet.
  /// - Parameter capacity: tokens.
  func state(capacity: Int) throws -> any DecoderState
  /// Texts that one call takes.
  var textsAtOnce: Int { get }
  /// Reads the next tokens of each text, and adds to `final` what belongs to the last of them.
  /// - Parameters:
  ///   - texts: whose tokens are neighbours in `taps`, as are their rows in `final`.
  ///   - final: F32 [d, rows], filled by the backbone; nil reads alone.
  ///   - taps: one BF16 [d, tokens] per rung.
  ///   - place: the row of the texts' first token in `taps`, and that of the first text in `final`.
  ///   - pool: for this step's tensors.
  func correct(
    _ final: Tensor?, taps: [Tensor], _ texts: [DecodedPart], at place: (token: Int, text: Int), pool: TensorPool)
    throws
}

/// What a method keeps of one text's tokens.
package protocol DecoderState: AnyObject {
  /// Tokens that it has room for.
  var capacity: Int { get }
  /// A state of the first `tokens` tokens alone, with its own room.
  func copy(tokens: Int, capacity: Int) throws -> any DecoderState
}

/// A text's next tokens.
package struct DecodedPart {
  package var state: any DecoderState
  /// Tokens before these.
  package var past: Int
  /// How many these are.
  package var tokens: Int

  package init(_ state: any DecoderState, past: Int, tokens: Int) {
    self.state = state
    self.past = past
    self.tokens = tokens
  }
}
