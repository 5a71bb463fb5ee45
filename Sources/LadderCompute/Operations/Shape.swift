import CLlama

extension Tape {
  /// The same elements in another shape.
  package func reshape(_ x: Tensor, _ shape: [Int]) -> Tensor {
    record(graph.reshape(x, shape), [x]) { [graph] dy in
      [graph.reshape(ggml_is_contiguous(dy.pointer) ? dy : graph.contiguous(dy), x.shape)]
    }
  }

  /// Rows `ids` of x. Shapes: x [k, n], ids I32 [r] → [k, r]; ids are distinct.
  package func rows(_ x: Tensor, _ ids: Tensor) -> Tensor {
    record(graph.rows(of: x, ids), [x]) { [graph] dy in
      [graph.add(ggml_get_rows_back(graph.context, dy.pointer, ids.pointer, x.pointer))]
    }
  }
}
