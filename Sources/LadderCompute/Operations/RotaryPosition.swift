import CLlama

extension Tape {
  /// Rotary position embedding in NeoX order (Su et al. 2021, eq. 34). Shapes: x [head, heads, n], positions I32 [n].
  package func rope(_ x: Tensor, positions: Tensor, base: Float) -> Tensor {
    let mode = Int32(GGML_ROPE_TYPE_NEOX), dimensions = Int32(x[0])
    let y = ggml_rope_ext(graph.context, x.pointer, positions.pointer, nil, dimensions, mode, 0, base, 1, 0, 1, 32, 1)
    return record(graph.add(y), [x]) { [graph] dy in
      // The rotation's transpose is the rotation by the opposite angle.
      [graph.add(ggml_rope_ext_back(graph.context, dy.pointer, positions.pointer, nil, dimensions, mode, 0, base, 1, 0, 1, 32, 1))]
    }
  }
}
