/// Tokens, and which of them are to be predicted.
struct LearnedTokens {
  var tokens: [Int32] = []
  var flags: [Bool] = []

  mutating func append(_ more: [Int32], _ flag: Bool) {
    tokens += more
    flags += more.map { _ in flag }
  }

  var encoded: EncodedSample? { EncodedSample(sequence: tokens, learned: flags) }

  /// Without `excess` tokens of what comes before the first that is learned, the first `kept` staying; nil where there
  /// are not so many.
  func cut(_ excess: Int, keeping kept: Int) -> LearnedTokens? {
    let unlearned = flags.prefix { !$0 }.count
    guard unlearned - kept > excess else { return nil }
    var result = self
    result.tokens.removeSubrange(kept..<(kept + excess))
    result.flags.removeSubrange(kept..<(kept + excess))
    return result
  }

  /// A text that is all learned, in pieces of at most `length`, each token learned once: a piece begins with `beginning`
  /// and with the last token of the one before.
  static func pieces(of tokens: [Int32], beginning: [Int32], length: Int) -> [LearnedTokens] {
    let body = Array(tokens.dropFirst(beginning.count))
    var result: [LearnedTokens] = [], start = 0
    while start < body.count {
      let context = start > 0 ? 1 : 0, room = max(1, length - beginning.count - context)
      let end = min(body.count, start + room)
      var piece = LearnedTokens()
      piece.append(beginning, false)
      piece.append(Array(body[(start - context)..<start]), false)
      piece.append(Array(body[start..<end]), true)
      result.append(piece)
      start = end
    }
    return result
  }
}
