/// A sample as tokens, with the rows that carry loss.
package struct EncodedSample: Sendable, Equatable {
  /// What the backbone reads: up to the last loss row. The very last token is only ever a target.
  package var tokens: [Int32]
  /// Ascending indices into `tokens`.
  package var lossRows: [Int]
  /// The token that follows each loss row.
  package var targets: [Int32]
  /// Of each loss row the tokens that the target competes with, itself among them, ascending; none where that is the
  /// whole vocabulary.
  package var rivals: [[Int32]]

  package var packed: PackedSample { PackedSample(tokens: tokens, lossRows: lossRows) }

  /// - Parameters:
  ///   - sequence: all tokens, targets included.
  ///   - learned: for each token, whether it is to be predicted; the first never is.
  package init?(sequence: [Int32], learned: [Bool]) {
    let rows = sequence.indices.dropLast().filter { learned[$0 + 1] }
    guard let last = rows.last else { return nil }
    tokens = Array(sequence[...last])
    lossRows = rows
    targets = rows.map { sequence[$0 + 1] }
    rivals = rows.map { _ in [] }
  }
}
