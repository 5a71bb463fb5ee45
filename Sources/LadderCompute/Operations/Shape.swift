import CLlama

extension Tape {
  /// The same elements in another shape.
  package func reshape(_ x: Tensor, _ shape: [Int]) -> Tensor {
    record(graph.reshape(x, shape), [x]) { [graph] dy in
      [graph.reshape(ggml_is_contiguous(dy.pointer) ? dy : graph.contiguous(dy), x.shape)]
    }
  }

  /// Number `i` of a vector. Shapes: x [k] → [1].
  package func element(_ i: Int, of x: Tensor) -> Tensor {
    record(graph.slice(x, 0, i..<(i + 1)), [x]) { [graph] dy in
      [graph.accumulate(dy, into: graph.zeros(like: x), 0, at: i)]
    }
  }

  /// Channels `range` of each row. Shapes: x [k, n] → [range, n].
  package func channels(_ range: Range<Int>, of x: Tensor) -> Tensor {
    record(graph.contiguous(graph.slice(x, 0, range)), [x]) { [graph] dy in
      [graph.accumulate(dy, into: graph.zeros(like: x), 0, at: range.lowerBound)]
    }
  }

  /// Rows `ids` of x. Shapes: x [k, n], ids I32 [r] → [k, r]; ids are distinct.
  package func rows(_ x: Tensor, _ ids: Tensor) -> Tensor {
    record(graph.rows(of: x, ids), [x]) { [graph] dy in
      [graph.scattered(dy, ids, like: x)]
    }
  }
}
