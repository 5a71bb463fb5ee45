import CLlama

extension Tape {
  /// y = W·x. Shapes: W [k, m], x [k, n] → y [m, n].
  ///
  /// By `DenseProduct` where it serves. Elsewhere the first operand of each product decides its kernel: the weight, or a
  /// transposed operand, rounded where the tape rounds. dW = Σₙ x·dyᵀ and dx = Wᵀ·dy are then `mul_mat` on transposed
  /// contiguous operands, or, for a low-rank W, `narrowMatmul`.
  /// - Parameters:
  ///   - keeps: keep the result, where the tape keeps any.
  ///   - standIn: stands for the result, whose shape it has, where nobody reads the function's output; nil computes it.
  package func project(_ x: Tensor, _ weight: Tensor, keeps: Bool = false, unreadAs standIn: Tensor? = nil) -> Tensor {
    let w = operand(weight)
    // dy [m, n]
    let y =
      unread(standIn) ?? kept(keeps) { graph.product(w, x) ?? graph.narrowMatmul(w, x) ?? graph.matmul(w, x) }
    return record(y, [weight, x]) { [graph] dy in
      [
        self.needs(weight) ? self.weightGradient(x, dy) : nil,
        // [m, k]·[m, n] → [k, n]
        self.needs(x)
          ? graph.product(transpose: w, dy, rounds: self.rounds) ?? graph.narrowMatmul(transpose: w, dy)
            ?? graph.matmul(self.transposedOperand(w), gradient: dy) : nil,
      ]
    }
  }

  private var rounds: Bool { products == .bfloat16 }

  /// dW = Σₙ x·dyᵀ. Shapes: x [k, n], dy [m, n] → [k, m].
  private func weightGradient(_ x: Tensor, _ dy: Tensor) -> Tensor {
    // [n, k]·[n, m]
    graph.product(sumOver: x, dy, rounds: rounds) ?? graph.matmul(transposedOperand(x), gradient: graph.transposed(dy))
  }

  /// The same map of a constant tap, which may be BF16. Shapes: W [k, m], tap [k, n] → y [m, n]; the tap gets no
  /// gradient.
  ///
  /// Where `DenseProduct` does not serve, the tap stands first in both products, so that the kernel is the one of its
  /// type.
  package func projectTap(_ tap: Tensor, _ weight: Tensor, keeps: Bool = false) -> Tensor {
    let w = operand(weight)
    func byEngine() -> Tensor {
      // The CPU multiplies two BF16 operands as they are; elsewhere the second operand is F32.
      if graph.engine.isCPU, w.pointer.pointee.type == tap.pointer.pointee.type {
        return graph.matmul(w, tap)  // [k, m]·[k, n] → [m, n]
      }
      let second = weight.isBFloat16 ? graph.cast(weight, .float32) : weight
      return graph.transposed(graph.matmul(tap, second))  // [k, n]·[k, m] → [n, m] → [m, n]
    }
    return record(kept(keeps) { graph.product(w, tap) ?? byEngine() }, [weight]) { dy in [self.weightGradient(tap, dy)]
    }
  }

  /// y = W·x through a frozen, quantised W. Shapes: W [k, m], x [k, n] → y [m, n]; W gets no gradient.
  ///
  /// dx = Wᵀ·dy, with some rows of W at a time dequantised, and transposed and rounded where `DenseProduct` does not
  /// serve.
  package func projectFrozen(
    _ x: Tensor, _ weight: Tensor, keeps: Bool = true, unreadAs standIn: Tensor? = nil
  ) -> Tensor {
    record(unread(standIn) ?? kept(keeps) { graph.matmul(frozen: weight, x) }, [x]) { [graph] dy in  // dy [m, n]
      let rows = max(32, Self.dequantisedBytes / (4 * weight[0]) / 32 * 32)
      var dx: Tensor?
      for start in stride(from: 0, to: weight[1], by: rows) {
        let range = start..<min(start + rows, weight[1])
        let part = graph.dequantised(weight, range)  // [k, rows]
        let own = range.count == weight[1] ? dy : graph.contiguous(graph.slice(dy, 0, range))  // [rows, n]
        let piece =  // [k, n]
          graph.product(transpose: part, own, rounds: self.rounds)
          ?? graph.matmul(graph.transposed(part, as: self.products), gradient: own)
        dx = dx.map { graph.addInPlace($0, piece) } ?? piece
      }
      return [dx]
    }
  }

  /// The most bytes of a weight that are dequantised at a time.
  private static var dequantisedBytes: Int { 32 << 20 }

  /// Mean over groups of neighbouring channels. Shapes: x [k, n] F32, `width` divides k → y [width, n].
  package func pool(_ x: Tensor, width: Int) -> Tensor {
    let k = x[0], n = x[1]
    let group = k / width
    let y = graph.reshape(
      graph.add(ggml_mean(graph.context, graph.reshape(x, [group, width, n]).pointer)), [width, n])
    return record(y, [x]) { [graph] dy in
      let spread = ggml_repeat_4d(
        graph.context, graph.reshape(dy, [1, width, n]).pointer, Int64(group), Int64(width), Int64(n), 1)
      return [graph.reshape(graph.scale(graph.add(spread), 1 / Float(group)), [k, n])]
    }
  }
}
