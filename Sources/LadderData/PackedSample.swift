/// One sample of a micro-batch: its tokens, and the rows at which the next token matters.
package struct PackedSample: Sendable, Equatable {
  package var tokens: [Int32]
  /// Ascending indices into `tokens`.
  package var lossRows: [Int]
  /// Where the sample holds two texts that begin alike; nil for one text.
  package var fork: Fork?

  /// Two texts, their common beginning first and once: the second goes on from row `second` where it left the first,
  /// and sees the beginning and itself.
  package struct Fork: Sendable, Equatable {
    /// Tokens of the common beginning.
    package var shared: Int
    /// The row at which the second text's own tokens begin.
    package var second: Int

    package init(shared: Int, second: Int) {
      self.shared = shared
      self.second = second
    }
  }

  package init(tokens: [Int32], lossRows: [Int], fork: Fork? = nil) {
    self.tokens = tokens
    self.lossRows = lossRows
    self.fork = fork
  }

  /// Two texts as one sample, the loss rows of the first before those of the second; nil where too little is common to
  /// both for that to be worth it. Their common beginning carries no loss.
  package init?(_ first: PackedSample, and second: PackedSample, sharingAtLeast least: Int = 16) {
    let common = zip(first.tokens, second.tokens).prefix { $0 == $1 }.count
    let shared = min(common, first.lossRows.first ?? 0, second.lossRows.first ?? 0)
    guard shared >= least, first.fork == nil, second.fork == nil else { return nil }
    let start = first.tokens.count
    self.init(
      tokens: first.tokens + second.tokens[shared...],
      lossRows: first.lossRows + second.lossRows.map { start + $0 - shared }, fork: Fork(shared: shared, second: start))
  }

  /// Each token's place in its own text.
  package var positions: [Int] {
    guard let fork else { return Array(tokens.indices) }
    return Array(0..<fork.second) + tokens.indices[fork.second...].map { fork.shared + $0 - fork.second }
  }

  /// How many texts it holds.
  package var texts: Int { fork == nil ? 1 : 2 }

  /// Those that a row belongs to, counted from `first`.
  package func texts(of row: Int, first: Int) -> ClosedRange<Int> {
    guard let fork else { return first...first }
    return row < fork.shared ? first...(first + 1) : row < fork.second ? first...first : (first + 1)...(first + 1)
  }
}
