import LadderCompute
import LadderData

/// How the samples of a micro-batch lie one after another, as every forward pass of Ladder's own takes them.
///
/// The micro-batch, not each sample, is rounded up to a multiple of 32 rows, the step of the fast matrix kernels: the
/// at most 31 rows at its end are a sample of no one, and no gradient reaches them.
package struct MicroBatch {
  /// The samples' lengths and forks, and last the rows that belong to none.
  package let spans: [AttentionBlocks.Span]
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
    let own = samples.map(AttentionBlocks.Span.init)
    tokens = own.reduce(0) { $0 + $1.length }
    rows = AttentionBlocks.rounded(tokens)
    spans = own + [.init(length: rows - tokens)]
    positions = try pool.make((samples.flatMap(\.positions) + Array(0..<(rows - tokens))).map(Int32.init))
    var start: Int32 = 0
    var ids: [Int32] = []
    for sample in samples {
      ids += sample.lossRows.map { start + Int32($0) }
      start += Int32(sample.tokens.count)
    }
    lossRows = try pool.make(ids)
    ownRows = samples.map(\.lossRows)
  }

  /// Whether these samples have this micro-batch's lengths, forks and loss rows: everything but the tokens themselves.
  package func isLaidOut(like samples: [PackedSample]) -> Bool {
    spans.dropLast().elementsEqual(samples.lazy.map(AttentionBlocks.Span.init)) && ownRows == samples.map(\.lossRows)
  }
}

extension AttentionBlocks.Span {
  init(_ sample: PackedSample) {
    self.init(
      length: sample.tokens.count, shared: sample.fork?.shared ?? 0, second: sample.fork?.second ?? sample.tokens.count)
  }
}
