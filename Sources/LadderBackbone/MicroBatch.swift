import LadderCompute
import LadderData

/// How the samples of a micro-batch lie one after another, as every forward pass of Ladder's own takes them.
///
/// The micro-batch, not each sample, is rounded up to a multiple of 32 rows, the step of the fast matrix kernels: the
/// at most 31 rows at its end are a sample of no one, and no gradient reaches them.
package struct MicroBatch {
  /// Tokens of each sample, and last the rows that belong to none.
  package let lengths: [Int]
  /// Rows n, the padding among them.
  package let rows: Int
  /// Rows that belong to a sample.
  package let tokens: Int
  /// I32 [n], counted from each sample's start.
  package let positions: Tensor
  /// I32 [loss rows], places among the n rows.
  package let lossRows: Tensor
  /// The samples' own loss rows, counted from each one's start.
  private let ownRows: [[Int]]

  package init(_ samples: [PackedSample], pool: TensorPool) throws {
    let own = samples.map(\.tokens.count)
    tokens = own.reduce(0, +)
    rows = AttentionBlocks.rounded(tokens)
    lengths = own + [rows - tokens]
    positions = try pool.make(lengths.flatMap { (0..<Int32($0)).map { $0 } })
    var start: Int32 = 0
    var ids: [Int32] = []
    for sample in samples {
      ids += sample.lossRows.map { start + Int32($0) }
      start += Int32(sample.tokens.count)
    }
    lossRows = try pool.make(ids)
    ownRows = samples.map(\.lossRows)
  }

  /// Whether these samples have this micro-batch's lengths and loss rows: everything but the tokens themselves.
  package func isLaidOut(like samples: [PackedSample]) -> Bool {
    lengths.dropLast().elementsEqual(samples.lazy.map(\.tokens.count)) && ownRows == samples.map(\.lossRows)
  }
}
