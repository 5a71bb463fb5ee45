import LadderMethods

/// A text's place in a lane. What it holds stays after the text has ended, until the place is taken.
struct TextSlot {
  /// What the backbone's keys and values are of.
  var tokens: [Int32] = []
  /// For each rung the rows of these tokens, in BF16.
  var taps: [[UInt8]] = []
  /// What reads them, and what it holds of how many of the tokens.
  var model: AdaptedModel?
  var state: (any DecoderState)?
  var read = 0
  var isBusy = false
  /// Tokens that the text may come to.
  var reserved = 0
  /// When it was last used.
  var turn = 0

  /// Forgets what it holds for its model alone.
  mutating func forgetModel() {
    model = nil
    state = nil
    read = 0
  }

  /// How many tokens another text begins with alike.
  func common(with other: [Int32]) -> Int {
    var count = 0
    while count < min(tokens.count, other.count), tokens[count] == other[count] { count += 1 }
    return count
  }
}
