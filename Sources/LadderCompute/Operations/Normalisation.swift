import CLlama

extension Tape {
  /// exp(x) / Σ exp(x) over each row. Shapes: x [k, n] → [k, n].
  package func softmax(_ x: Tensor) -> Tensor {
    // Kept: ggml would let the gradient take y's memory, and reads y after it has begun to write.
    let y = graph.keep(graph.add(ggml_soft_max(graph.context, x.pointer)))
    return record(y, [x]) { [graph] dy in
      [graph.softmaxBack(dy, y, scale: 1)]
    }
  }

  /// x / √(mean(x²) + ε) over each row's channels. Shapes: x [k, n] → [k, n].
  package func rmsNorm(_ x: Tensor, epsilon: Float) -> Tensor {
    record(graph.rmsNorm(x, epsilon), [x]) { [graph] dy in
      [graph.rmsNormBack(dy, x, epsilon)]
    }
  }
}
