import CLlama

extension Tape {
  /// a + b, of one shape.
  package func add(_ a: Tensor, _ b: Tensor) -> Tensor {
    record(graph.add(a, b), [a, b]) { dy in [dy, dy] }
  }

  /// a − b, of one shape.
  package func subtract(_ a: Tensor, _ b: Tensor) -> Tensor {
    record(graph.subtract(a, b), [a, b]) { [graph] dy in [dy, graph.scale(dy, -1)] }
  }

  /// a ∘ b, where b is a's shape or repeats along a's dimensions: a [k, n], b [k, n], [k, 1] or [1, 1].
  package func multiply(_ a: Tensor, _ b: Tensor) -> Tensor {
    record(graph.multiply(a, b), [a, b]) { [graph] dy in
      var db: Tensor?
      if self.needs(b) {
        let product = graph.multiply(dy, a)  // [k, n]
        db = b.count == 1 ? graph.sum(product) : b.shape == a.shape ? product : graph.sumTo(product, like: b)
      }
      return [self.needs(a) ? graph.multiply(dy, b) : nil, db]
    }
  }

  /// factor · a.
  package func scale(_ a: Tensor, _ factor: Float) -> Tensor {
    record(graph.scale(a, factor), [a]) { [graph] dy in [graph.scale(dy, factor)] }
  }

  /// σ(a); dσ = σ·(1 − σ).
  package func sigmoid(_ a: Tensor) -> Tensor {
    let y = graph.sigmoid(a)
    return record(y, [a]) { [graph] dy in [graph.multiply(dy, graph.subtract(y, graph.square(y)))] }
  }

  /// SiLU(a) = a·σ(a).
  package func silu(_ a: Tensor) -> Tensor {
    record(graph.add(ggml_silu(graph.context, a.pointer)), [a]) { [graph] dy in
      [graph.siluBack(dy, a)]
    }
  }

  /// SwiGLU: SiLU(gate) ∘ up, both [k, n] (Shazeer 2020, eq. 6).
  package func swiglu(gate: Tensor, up: Tensor) -> Tensor {
    record(graph.add(ggml_swiglu_split(graph.context, gate.pointer, up.pointer)), [gate, up]) { [graph] dy in
      [
        self.needs(gate) ? graph.siluBack(graph.multiply(dy, up), gate) : nil,
        self.needs(up) ? graph.multiply(dy, graph.add(ggml_silu(graph.context, gate.pointer))) : nil,
      ]
    }
  }

  /// a + b, where b repeats along a's rows. Shapes: a [k, n], b [k] → [k, n].
  package func shift(_ a: Tensor, by b: Tensor) -> Tensor {
    record(graph.add(a, b), [a, b]) { [graph] dy in [dy, self.needs(b) ? graph.sumTo(dy, like: b) : nil] }
  }

  /// GeGLU: GELU(gate) ∘ up, both [k, n], with the tanh form of GELU (Shazeer 2020, eq. 6; Hendrycks & Gimpel 2016,
  /// §2).
  ///
  ///     v = 2√(2/π)·(x + 0.044715·x³),  GELU(x) = x·σ(v),
  ///     GELU′(x) = σ(v) + x·σ(v)·(1 − σ(v))·2√(2/π)·(1 + 3·0.044715·x²)
  package func geglu(gate: Tensor, up: Tensor) -> Tensor {
    record(graph.add(ggml_geglu_split(graph.context, gate.pointer, up.pointer)), [gate, up]) { [graph] dy in
      let root: Float = 1.595_769_121_605_730_7, cubic: Float = 0.044715
      let square = graph.square(gate)
      let share = graph.sigmoid(graph.multiply(gate, graph.scaleAndShift(square, root * cubic, root)))
      let value = graph.multiply(gate, share)
      var dGate: Tensor?
      if self.needs(gate) {
        let slope = graph.multiply(
          graph.subtract(value, graph.multiply(value, share)), graph.scaleAndShift(square, 3 * root * cubic, root))
        dGate = graph.multiply(graph.multiply(dy, up), graph.add(share, slope))
      }
      return [dGate, self.needs(up) ? graph.multiply(dy, value) : nil]
    }
  }

  /// s + σ(a / τ)·(x − s): the gate of one side layer (Sung et al. 2022, §3.2). Shapes: x, s [k, n]; a [1].
  package func gate(_ x: Tensor, _ s: Tensor, _ a: Tensor, temperature: Float) -> Tensor {
    add(s, multiply(subtract(x, s), sigmoid(scale(a, 1 / temperature))))
  }
}
