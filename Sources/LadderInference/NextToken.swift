import LadderBackbone
import LadderCompute

/// The head over single rows.
package final class NextToken {
  private let backbone: Backbone
  private let graph: Graph

  package init(_ backbone: Backbone) throws {
    self.backbone = backbone
    graph = try Graph(backbone.engine, nodes: 64)
  }

  /// Calls `body` with the logits of some of the rows, each V numbers.
  /// - Parameters:
  ///   - rows: [d, n].
  ///   - picks: which of them; nil is all.
  package func withLogits(
    _ rows: Tensor, of picks: Tensor?, _ body: (_ index: Int, UnsafeBufferPointer<Float>) throws -> Void
  ) throws {
    graph.reset()
    let logits = graph.keep(backbone.head.logits(graph, picks.map { graph.rows(of: rows, $0) } ?? rows))
    try graph.compute()
    let width = backbone.vocabulary
    try logits.withHostBytes { bytes in
      let numbers = UnsafeRawBufferPointer(bytes).bindMemory(to: Float.self)
      for index in 0..<logits[1] {
        try body(index, UnsafeBufferPointer(rebasing: numbers[(index * width)..<((index + 1) * width)]))
      }
    }
  }
}
