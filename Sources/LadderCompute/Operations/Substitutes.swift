import CLlama

/// Operations that some devices lack (Metal most of these), or do not take so many numbers of, each with what it is made
/// of where it is not there: the work stays on the device.
extension Graph {
  /// The gradient of `y = softmax(scale · x)`. Shapes: dy, y [k, …] → [k, …].
  package func softmaxBack(_ dy: Tensor, _ y: Tensor, scale factor: Float) -> Tensor {
    native(ggml_soft_max_ext_back(context, dy.pointer, y.pointer, factor, 0))
      ?? composedSoftmaxBack(dy, y, scale: factor)
  }

  /// scale · y ∘ (dy − Σ y·dy).
  package func composedSoftmaxBack(_ dy: Tensor, _ y: Tensor, scale factor: Float) -> Tensor {
    scale(multiply(y, subtract(dy, sumRows(multiply(y, dy)))), factor)
  }

  /// The gradient of `y = SiLU(x)`. Shapes: dy, x alike → the same.
  package func siluBack(_ dy: Tensor, _ x: Tensor) -> Tensor {
    if x.count > engine.mostNumbers { return composedSiLUBack(dy, x) }
    return add(ggml_silu_back(context, dy.pointer, x.pointer))
  }

  /// dy · (σ + x · σ · (1 − σ)).
  package func composedSiLUBack(_ dy: Tensor, _ x: Tensor) -> Tensor {
    let share = sigmoid(x)
    return multiply(dy, add(share, multiply(x, subtract(share, square(share)))))
  }

  /// The gradient of `rmsNorm`. Shapes: dy, x [k, n] → [k, n].
  package func rmsNormBack(_ dy: Tensor, _ x: Tensor, _ epsilon: Float) -> Tensor {
    native(ggml_rms_norm_back(context, dy.pointer, x.pointer, epsilon)) ?? composedRMSNormBack(dy, x, epsilon)
  }

  /// With m = mean(x²) + ε: (dy − x · mean(x·dy) / m) / √m.
  package func composedRMSNormBack(_ dy: Tensor, _ x: Tensor, _ epsilon: Float) -> Tensor {
    let width = Float(x[0])
    let mean = scaleAndShift(sumRows(square(x)), 1 / width, epsilon)  // [1, n]
    let along = divide(scale(sumRows(multiply(x, dy)), 1 / width), mean)  // [1, n]
    return divide(subtract(dy, multiply(x, along)), add(ggml_sqrt(context, mean.pointer)))
  }

  /// Sums `a` over the dimensions in which `shape` is 1.
  package func sumTo(_ a: Tensor, like shape: Tensor) -> Tensor {
    native(ggml_repeat_back(context, a.pointer, shape.pointer)) ?? composedSum(a, like: shape)
  }

  package func composedSum(_ a: Tensor, like shape: Tensor) -> Tensor {
    var result = a
    for dimension in 0..<4 where shape[dimension] == 1 && result[dimension] > 1 {
      // That dimension first, where sums are taken.
      var axes = [0, 1, 2, 3]
      axes.swapAt(0, dimension)
      let first = dimension == 0 ? result : contiguous(permute(result, axes))
      result = sumRows(first)
      if dimension > 0 { result = contiguous(permute(result, axes)) }
    }
    return reshape(result, shape.shape)
  }

  /// Rows of `a` put to the places `ids`, which are distinct, of zeros like `shape`: the transpose of `rows`.
  package func scattered(_ a: Tensor, _ ids: Tensor, like shape: Tensor) -> Tensor {
    native(ggml_get_rows_back(context, a.pointer, ids.pointer, shape.pointer))
      ?? composedScatter(a, ids, like: shape)
  }

  package func composedScatter(_ a: Tensor, _ ids: Tensor, like shape: Tensor) -> Tensor {
    add(ggml_set_rows(context, zeros(like: shape).pointer, a.pointer, ids.pointer))
  }

  private func divide(_ a: Tensor, _ b: Tensor) -> Tensor { add(ggml_div(context, a.pointer, b.pointer)) }

  /// The node where the device runs it; nil where it does not.
  private func native(_ node: UnsafeMutablePointer<ggml_tensor>?) -> Tensor? {
    engine.isCPU || engine.supports(node) ? add(node) : nil
  }
}
