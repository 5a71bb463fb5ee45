/// One sample of a micro-batch: its tokens, and the rows at which the next token matters.
package struct PackedSample: Sendable {
  package var tokens: [Int32]
  /// Ascending indices into `tokens`.
  package var lossRows: [Int]

  package init(tokens: [Int32], lossRows: [Int]) {
    self.tokens = tokens
    self.lossRows = lossRows
  }
}
