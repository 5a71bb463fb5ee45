import LadderBackbone
import LadderCompute

/// The cross-entropy of rows and its gradient over the whole vocabulary in dense operations alone, tile by tile: where
/// nothing may be left to drawing, and on an accelerator, from which only the losses are read.
///
/// Each tile's ln Σ exp(l) is Σ s·(l − ln s) for its softmax s, as l − ln s is the same number for every entry.
package final class DenseLoss {
  private let head: Head
  private let graph: Graph
  private let pool: TensorPool
  /// Rows at a time.
  package let rowsAtOnce: Int
  /// The tiles' vocabulary entries.
  private let tiles: [Range<Int>]

  /// - Parameter tileBytes: of a tile's logits, and of its dequantised weights, at most; nil for what stays in a
  ///   processor's cache, or what keeps an accelerator busy.
  package init(_ backbone: Backbone, tileBytes: Int? = nil) throws {
    head = backbone.head
    rowsAtOnce = backbone.engine.isCPU ? 128 : 512
    let tileBytes = tileBytes ?? (backbone.engine.isCPU ? 8 << 20 : 64 << 20)
    let vocabulary = head.vocabulary
    let most = max(64, tileBytes / (4 * max(head.width, rowsAtOnce)) / 64 * 64)
    // ggml's Vulkan softmax of more writes over what its products keep from one to the next.
    let entries = backbone.engine.isVulkan ? min(16_384, most) : most
    tiles = stride(from: 0, to: vocabulary, by: entries).map { $0..<min($0 + entries, vocabulary) }
    graph = try Graph(backbone.engine, nodes: 256 + 36 * tiles.count)
    pool = TensorPool(backbone.engine)
  }

  package var bytes: Int { graph.workspace + pool.capacity }

  /// −ln p(target) of a chunk of at most `rowsAtOnce` rows. Shapes: rows [width, all]; gradient the same, whose chunk
  /// is filled with `scale` × dΣloss/drows.
  /// - Parameter exact: multiply dequantised weights; nil does so for a gradient.
  package func evaluate(
    _ rows: Tensor, _ chunk: Range<Int>, targets: [Int32], gradient: Tensor?, scale: Float, exact: Bool? = nil
  ) throws -> [Float] {
    try pool.reset()
    let ids = try pool.make(targets)
    graph.reset()
    let rows = graph.slice(rows, 1, chunk)  // [width, n]
    let own = graph.rows(of: head.weight, ids)  // [width, n]
    let targetLogits = head.curve(graph, graph.sumRows(graph.multiply(own, rows)))  // [1, n]
    var sums: Tensor?  // ln Σ exp of each tile [tiles, n]
    for tile in tiles {
      let sum = logSumExp(logits(tile, rows, exact: exact ?? (gradient != nil)))  // [1, n]
      sums = sums.map { graph.concatenate($0, sum, 0) } ?? sum
    }
    guard let sums else { return [] }
    let whole = tiles.count > 1 ? logSumExp(sums) : sums  // [1, n]
    let losses = graph.keep(graph.subtract(whole, targetLogits))  // [1, n]
    if let gradient {
      let target = graph.slice(gradient, 1, chunk)  // [width, n]
      let all = try pool.make(.float32, [1, targets.count])
      graph.store(whole, in: all)
      // −f′(l_target)·W_target, then Wᵀ·(p·f′) tile by tile.
      graph.store(graph.scale(graph.multiply(own, slopes(targetLogits)), -scale), in: target)
      for tile in tiles {
        let tileLogits = logits(tile, rows, exact: true)  // [entries, n]
        let probabilities = graph.exp(graph.subtract(tileLogits, all))  // [entries, n]
        let shares = graph.multiply(probabilities, graph.scale(slopes(tileLogits), scale))  // [entries, n]
        let columns = graph.transposed(graph.dequantised(head.weight, tile))  // [entries, width]
        _ = graph.addInPlace(target, graph.matmul(columns, gradient: shares))
      }
    }
    try graph.compute()
    return losses.read()
  }

  /// ln p of some entries of each row of a chunk: every row's first as its target, then every row's second, ….
  package func logProbabilities(_ rows: Tensor, _ chunk: Range<Int>, of wanted: [[Int32]]) throws -> [[Float]] {
    var result = wanted.map { _ in [Float]() }
    for place in 0..<(wanted.map(\.count).max() ?? 0) {
      let targets = wanted.map { place < $0.count ? $0[place] : 0 }
      let losses = try evaluate(rows, chunk, targets: targets, gradient: nil, scale: 1)
      for row in wanted.indices where place < wanted[row].count { result[row].append(-losses[row]) }
    }
    return result
  }

  /// Shapes: x [width, n] → [entries, n].
  /// - Parameter exact: multiply dequantised weights, and not by the engine's kernel, which rounds x to 8 bits for
  ///   quantised ones.
  private func logits(_ tile: Range<Int>, _ x: Tensor, exact: Bool) -> Tensor {
    // [width, entries]·[width, n]
    head.curve(
      graph,
      exact
        ? graph.matmul(graph.dequantised(head.weight, tile), x)
        : graph.matmul(frozen: graph.slice(head.weight, 1, tile), x))
  }

  /// Shapes: l [k, n] → [1, n].
  private func logSumExp(_ l: Tensor) -> Tensor {
    let s = graph.softmax(l)
    // Entries whose share is zero add nothing: ln is kept finite.
    return graph.sumRows(graph.multiply(s, graph.subtract(l, graph.log(graph.scaleAndShift(s, 1, 1e-30)))))
  }

  /// f′ at the logits `l`, of their shape.
  private func slopes(_ l: Tensor) -> Tensor {
    if !head.capped { return graph.scaleAndShift(l, 0, head.outer) }
    return graph.scaleAndShift(graph.square(l), -head.inner / head.outer, head.inner * head.outer)
  }
}
