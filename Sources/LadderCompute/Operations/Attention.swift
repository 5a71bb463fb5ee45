import CLlama

/// How causal attention over packed samples is cut into blocks of query rows, so that no T×T matrix is ever held.
///
/// A block of `rows` query rows sees the keys from the start of its first row's sample on; where it holds more than one
/// sample, or its keys were widened to a multiple of the kernels' step, a mask keeps apart what must not be seen.
/// Memory is at most `rows` × (the longest sample) × heads.
package struct AttentionBlocks {
  struct Block {
    var queries: Range<Int>
    var keys: Range<Int>
    /// F32 [keys, queries], 0 where a query may look and −∞ where not; nil for plain causal attention of one sample.
    var mask: Tensor?
  }

  /// Matrix products are fast where the summed dimension is a multiple of this.
  package static let step = 32

  /// The next multiple of `step`.
  package static func rounded(_ count: Int) -> Int { (count + step - 1) / step * step }

  /// Where a sample's rows lie: all of one text, or two texts whose first `shared` rows are common, the second text's
  /// own rows beginning at row `second`.
  package struct Span: Equatable, Sendable {
    package var length: Int
    package var shared: Int
    package var second: Int

    package init(length: Int, shared: Int = 0, second: Int? = nil) {
      self.length = length
      self.shared = shared
      self.second = second ?? length
    }
  }

  /// What a query row sees: itself and all rows from `earliest` on but those of `hidden`.
  private struct Sight {
    var earliest: Int
    var hidden: Range<Int>

    /// - Parameters:
    ///   - row: within the sample.
    ///   - start: the sample's first row.
    init(_ row: Int, of span: Span, at start: Int, window: Int?) {
      let isSecond = row >= span.second
      let position = isSecond ? span.shared + row - span.second : row
      let first = max(0, window.map { position + 1 - $0 } ?? 0)
      earliest = start + (isSecond && first >= span.shared ? span.second + first - span.shared : first)
      hidden = isSecond ? max(earliest, start + span.shared)..<max(earliest, start + span.second) : start..<start
    }
  }

  let blocks: [Block]
  package var count: Int { blocks.count }
  package let tokens: Int

  /// - Parameters:
  ///   - spans: the samples in the order in which they are packed.
  ///   - rows: query rows of a block.
  ///   - window: a query sees this many tokens of its text, itself the last; nil sees all before it.
  package init(_ spans: [Span], rows: Int = 128, window: Int? = nil, pool: TensorPool) throws {
    var sights: [Sight] = []
    for span in spans {
      let start = sights.count
      sights += (0..<span.length).map { Sight($0, of: span, at: start, window: window) }
    }
    let tokens = sights.count
    blocks = try stride(from: 0, to: tokens, by: rows).map { first in
      let queries = first..<min(first + rows, tokens)
      let own = sights[queries]
      let earliest = own.reduce(first) { min($0, $1.earliest) }
      let keys = (earliest / Self.step * Self.step)..<queries.upperBound
      if pool.engine.masksCausally, own.allSatisfy({ $0.earliest == keys.lowerBound && $0.hidden.isEmpty }) {
        return Block(queries: queries, keys: keys, mask: nil)
      }
      var values = [Float](repeating: -.infinity, count: keys.count * queries.count)
      for query in queries {
        let row = (query - queries.lowerBound) * keys.count - keys.lowerBound, sight = sights[query]
        for key in sight.earliest...query where !sight.hidden.contains(key) { values[row + key] = 0 }
      }
      return Block(queries: queries, keys: keys, mask: try pool.make(values, [keys.count, queries.count]))
    }
    self.tokens = tokens
  }
}

extension Tape {
  /// softmax(q·kᵀ·scale + mask)·v over packed samples. Shapes: q [head, heads, n]; k, v [head, key heads, n] → [head,
  /// heads, n].
  ///
  /// Where there are fewer key heads, neighbouring query heads share one (Ainslie et al. 2023).
  /// The gradient computes each block's probabilities again instead of keeping them.
  package func attention(_ q: Tensor, _ k: Tensor, _ v: Tensor, _ blocks: AttentionBlocks, scale: Float) -> Tensor {
    let graph = graph
    func heads(_ x: Tensor, _ range: Range<Int>) -> Tensor {  // [head, heads, n] → [head, range, heads], a view
      graph.permute(graph.slice(x, 2, range), [0, 2, 1, 3])
    }
    func probabilities(_ block: AttentionBlocks.Block) -> Tensor {
      // [keys, queries, heads]
      var scores = graph.headProduct(heads(k, block.keys), heads(q, block.queries))
      if block.mask == nil {
        let past = block.queries.lowerBound - block.keys.lowerBound
        scores = graph.add(ggml_diag_mask_inf_inplace(graph.context, scores.pointer, Int32(past)))
      }
      return graph.add(ggml_soft_max_ext(graph.context, scores.pointer, block.mask?.pointer, scale, 0))
    }

    /// The key heads' gradient from the query heads'. Shapes: x [head, keys, heads] → [head, keys, key heads].
    func shared(_ x: Tensor) -> Tensor {
      let heads = q[1], keyHeads = k[1]
      if heads == keyHeads { return x }
      let groups = graph.reshape(x, [x[0] * x[1], heads / keyHeads, keyHeads])
      return graph.reshape(graph.sumTo(groups, like: graph.slice(groups, 1, 0..<1)), [x[0], x[1], keyHeads])
    }

    let output = kept {
      let values = ChannelsLast(v, graph)
      let parts = blocks.blocks.map { block in
        let p = probabilities(block)
        let mixed =  // [head, queries, heads]
          graph.product(transpose: heads(v, block.keys), p) ?? graph.matmul(values.slice(block.keys), p)
        return graph.contiguous(graph.permute(mixed, [0, 2, 1, 3]))  // [head, heads, queries]
      }
      return graph.concatenate(parts, 2)
    }

    return record(output, [q, k, v]) { dy in
      let queriesLast = ChannelsLast(q, graph)
      let keysLast = ChannelsLast(k, graph)
      let gradientsLast = ChannelsLast(dy, graph)
      var dk = graph.zeros(like: k), dv = graph.zeros(like: v)  // [head, heads, n]
      let dq = blocks.blocks.map { block in
        let p = probabilities(block)  // [keys, queries, heads]
        let own = heads(dy, block.queries)  // [head, queries, heads]
        // [keys, queries, heads]
        let ds = graph.softmaxBack(
          graph.headProduct(graph.withRange(heads(v, block.keys)), own), p, scale: scale)
        let dqBlock =  // [head, queries, heads]
          graph.product(transpose: heads(k, block.keys), ds)
          ?? graph.matmul(keysLast.slice(block.keys), gradient: ds)
        // [head, keys, key heads]
        let dkBlock = shared(
          graph.product(sumOver: heads(q, block.queries), ds)
            ?? graph.matmul(queriesLast.slice(block.queries), gradient: graph.transposed(ds)))
        let dvBlock = shared(
          graph.product(sumOver: own, p)
            ?? graph.matmul(graph.withRange(gradientsLast.slice(block.queries)), graph.transposed(p)))
        dk = graph.accumulate(
          graph.contiguous(graph.permute(dkBlock, [0, 2, 1, 3])), into: dk, 2, at: block.keys.lowerBound)
        dv = graph.accumulate(
          graph.contiguous(graph.permute(dvBlock, [0, 2, 1, 3])), into: dv, 2, at: block.keys.lowerBound)
        return graph.contiguous(graph.permute(dqBlock, [0, 2, 1, 3]))  // [head, heads, queries]
      }
      return [graph.concatenate(dq, 2), dk, dv]
    }
  }

  /// Attention of new rows over cached keys and values, without a gradient: step-by-step decoding.
  ///
  /// Shapes: q [head, heads, n]; keys [head, heads, past + n], values [past + n, head, heads], the last n of them the
  /// new rows' own.
  package func cachedAttention(_ q: Tensor, keys: Tensor, values: Tensor, scale: Float) -> Tensor {
    let n = q[2], total = keys[2]
    // [total, n, heads]
    var scores = graph.matmul(graph.permute(keys, [0, 2, 1, 3]), graph.contiguous(graph.permute(q, [0, 2, 1, 3])))
    if n > 1 { scores = graph.add(ggml_diag_mask_inf_inplace(graph.context, scores.pointer, Int32(total - n))) }
    let p = graph.add(ggml_soft_max_ext(graph.context, scores.pointer, nil, scale, 0))
    let mixed = graph.matmul(values, p)  // [head, n, heads]
    return graph.contiguous(graph.permute(mixed, [0, 2, 1, 3]))  // [head, heads, n]
  }
}

extension Graph {
  /// Puts new rows' values behind each channel's own. Shapes: v [head, heads, n], contiguous; values [capacity, head,
  /// heads].
  package func append(_ v: Tensor, toChannelsOf values: Tensor, at past: Int) {
    if v[2] == 1 {
      // As a column of a matrix: of more dimensions ggml's CUDA backend takes a single row for a transposition, and
      // writes its numbers side by side (ggml-org/ggml#1497).
      let channels = v[0] * v[1]
      store(
        reshape(v, [1, channels]), in: slice(reshape(values, [values[0], channels]), 0, past..<(past + 1)))
    } else {
      store(permute(v, [1, 2, 0, 3]), in: slice(values, 0, past..<(past + v[2])))
    }
  }
}

/// A copy of heads' rows whose rows are neighbours, made where it is first asked for. Shapes: x [head, heads, n] → [n,
/// head, heads].
private final class ChannelsLast {
  private let source: Tensor
  private let graph: Graph
  private lazy var copy = graph.contiguous(graph.permute(source, [1, 2, 0, 3]))

  init(_ source: Tensor, _ graph: Graph) {
    self.source = source
    self.graph = graph
  }

  /// [range, head, heads], a view.
  func slice(_ range: Range<Int>) -> Tensor { graph.slice(copy, 0, range) }
}

extension Graph {
  /// Products within each head. Shapes: a [head, k, key heads], b [head, n, heads], views → [k, n, heads].
  fileprivate func headProduct(_ a: Tensor, _ b: Tensor) -> Tensor {
    // ggml's fast kernels want their second operand contiguous.
    product(a, b) ?? matmul(a, contiguous(b))
  }
}
