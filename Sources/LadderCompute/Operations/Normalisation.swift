import CLlama

extension Tape {
  /// x / √(mean(x²) + ε) over each row's channels. Shapes: x [k, n] → [k, n].
  package func rmsNorm(_ x: Tensor, epsilon: Float) -> Tensor {
    record(graph.rmsNorm(x, epsilon), [x]) { [graph] dy in
      [graph.add(ggml_rms_norm_back(graph.context, dy.pointer, x.pointer, epsilon))]
    }
  }
}
