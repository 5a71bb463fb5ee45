import CLlama

extension Tape {
  /// Rows `ids` of x. Shapes: x [k, n], ids I32 [r] → [k, r]; ids are distinct.
  package func rows(_ x: Tensor, _ ids: Tensor) -> Tensor {
    record(graph.rows(of: x, ids), [x]) { [graph] dy in
      [graph.add(ggml_get_rows_back(graph.context, dy.pointer, ids.pointer, x.pointer))]
    }
  }
}
