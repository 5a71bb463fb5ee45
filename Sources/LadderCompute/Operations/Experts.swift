import CLlama

/// A choice of experts in the place of a feed-forward network, as llama.cpp runs it.
package struct ExpertWeights {
  /// [d, experts].
  package var router: Tensor
  /// gate, up [d, f, experts]; down [f, d, experts].
  package var gate: Tensor
  package var up: Tensor
  package var down: Tensor
  /// Experts of each token.
  package var used: Int
  /// The chosen experts' shares are multiplied by this.
  package var scale: Float

  package init(router: Tensor, gate: Tensor, up: Tensor, down: Tensor, used: Int, scale: Float = 1) {
    self.router = router
    self.gate = gate
    self.up = up
    self.down = down
    self.used = used
    self.scale = scale
  }
}

extension Tape {
  /// Σₑ wₑ·downₑ·(SiLU(gateₑ·x) ∘ upₑ·x) over the experts of largest share; w is the softmax of router·x over those
  /// experts (Shazeer et al. 2017, §2.1; Qwen3). Shapes: x [d, n] → [d, n]. The weights are frozen and get no gradient.
  ///
  /// The gradient chooses and computes the experts again instead of keeping what they gave. It dequantises all experts
  /// of one matrix at a time.
  package func experts(_ x: Tensor, _ weights: ExpertWeights) -> Tensor {
    let d = x[0], n = x[1], used = weights.used
    return record(kept { expertParts(x, weights).output }, [x]) { [graph] dy in
      let parts = self.expertParts(x, weights)
      func spread(_ x: Tensor) -> Tensor {  // [d, n] → [d, used, n]
        graph.add(
          ggml_repeat_4d(
            graph.context, graph.reshape(x, [d, 1, n]).pointer, Int64(d), Int64(used), Int64(n), 1))
      }
      func back(_ matrix: Tensor, _ dy: Tensor) -> Tensor {  // [m, used, n] → [k, used, n] through [k, m, experts]
        let columns = graph.withRange(
          graph.transposed(graph.cast(matrix, .float32), as: self.products))  // [m, k, experts]
        return graph.add(ggml_mul_mat_id(graph.context, columns.pointer, dy.pointer, parts.chosen.pointer))
      }
      let each = spread(graph.contiguous(dy))  // [d, used, n]
      let dInner = back(weights.down, graph.multiply(each, parts.shares))  // [f, used, n]
      let dGate = graph.siluBack(graph.multiply(dInner, parts.up), parts.gate)
      let dUp = graph.multiply(dInner, graph.add(ggml_silu(graph.context, parts.gate.pointer)))
      let slots = graph.add(back(weights.gate, dGate), back(weights.up, dUp))  // [d, used, n]
      let byExperts = self.summed(slots)

      // Through the shares: dw = (dw′ − Σ dw′·w′) / Σ w of the chosen, then the softmax.
      let dShares = graph.reshape(graph.sumRows(graph.multiply(each, parts.results)), [used, n])
      let own = graph.scale(graph.reshape(parts.shares, [used, n]), 1 / weights.scale)
      let scaled = graph.scale(dShares, weights.scale)
      let mean = graph.sumRows(graph.multiply(scaled, own))  // [1, n]
      let dChosen = graph.add(
        ggml_div(graph.context, graph.subtract(scaled, mean).pointer, parts.sum.pointer))
      let experts = weights.router[1]
      let zeros = graph.zeros(like: graph.reshape(parts.probabilities, [1, experts, n]))
      let dProbabilities = graph.add(
        ggml_set_rows(
          graph.context, zeros.pointer, graph.reshape(dChosen, [1, used, n]).pointer, parts.chosen.pointer))
      let dScores = graph.softmaxBack(graph.reshape(dProbabilities, [experts, n]), parts.probabilities, scale: 1)
      let router = graph.transposed(graph.cast(weights.router, .float32))  // [experts, d]
      return [graph.add(byExperts, graph.matmul(router, gradient: dScores))]
    }
  }

  private struct ExpertParts {
    /// I32 [used, n].
    var chosen: Tensor
    /// [experts, n].
    var probabilities: Tensor
    /// Σ of the chosen experts' probabilities, [1, n].
    var sum: Tensor
    /// [1, used, n].
    var shares: Tensor
    /// [f, used, n].
    var gate: Tensor
    var up: Tensor
    /// Each expert's own result, [d, used, n].
    var results: Tensor
    /// [d, n].
    var output: Tensor
  }

  private func expertParts(_ x: Tensor, _ weights: ExpertWeights) -> ExpertParts {
    let d = x[0], n = x[1], used = weights.used, experts = weights.router[1]
    // Kept: the gradient reads it after ggml might have let another node take its memory.
    let probabilities = graph.keep(graph.softmax(graph.matmul(weights.router, x)))  // [experts, n]
    let chosen = graph.add(ggml_argsort_top_k(graph.context, probabilities.pointer, Int32(used)))
    let raw = graph.reshape(graph.rows(of: graph.reshape(probabilities, [1, experts, n]), chosen), [used, n])
    // As llama.cpp keeps the division finite.
    let sum = graph.add(ggml_clamp(graph.context, graph.sumRows(raw).pointer, 6.103515625e-5, .infinity))
    var shares = graph.add(ggml_div(graph.context, raw.pointer, sum.pointer))
    if weights.scale != 1 { shares = graph.scale(shares, weights.scale) }
    shares = graph.reshape(shares, [1, used, n])
    func through(_ matrix: Tensor, _ x: Tensor) -> Tensor {
      graph.add(ggml_mul_mat_id(graph.context, matrix.pointer, x.pointer, chosen.pointer))
    }
    let input = graph.reshape(x, [d, 1, n])
    let gate = through(weights.gate, input), up = through(weights.up, input)  // [f, used, n]
    let inner = graph.add(ggml_swiglu_split(graph.context, gate.pointer, up.pointer))
    let results = through(weights.down, inner)  // [d, used, n]
    return ExpertParts(
      chosen: chosen, probabilities: probabilities, sum: sum, shares: shares, gate: gate, up: up, results: results,
      output: summed(graph.multiply(results, shares)))
  }

  /// [d, used, n] → [d, n].
  private func summed(_ slots: Tensor) -> Tensor {
    let sum = graph.sumTo(slots, like: graph.slice(slots, 1, 0..<1))
    return graph.reshape(sum, [slots[0], slots[2]])
  }
}
