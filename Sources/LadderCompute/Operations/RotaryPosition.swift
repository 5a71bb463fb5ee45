import CLlama

extension Tape {
  /// Rotary position embedding (Su et al. 2021, eq. 34). Shapes: x [head, heads, n], positions I32 [n].
  /// - Parameters:
  ///   - isNeoX: turn pairs of channels that lie apart by half a head, not neighbours.
  ///   - scale: multiplies positions.
  ///   - dimensions: the first channels of a head, which turn; nil turns all.
  ///   - factors: F32 [dimensions / 2], divide each pair's frequency; nil for none.
  ///   - magnitude: multiplies what turns.
  package func rope(
    _ x: Tensor, positions: Tensor, base: Float, isNeoX: Bool = true, scale: Float = 1,
    dimensions: Int? = nil, factors: Tensor? = nil, magnitude: Float = 1
  ) -> Tensor {
    let mode = isNeoX ? Int32(GGML_ROPE_TYPE_NEOX) : Int32(GGML_ROPE_TYPE_NORMAL)
    let dimensions = Int32(dimensions ?? x[0])
    let y = ggml_rope_ext(
      graph.context, x.pointer, positions.pointer, factors?.pointer, dimensions, mode, 0, base, scale, 0, magnitude, 32,
      1)
    return record(graph.add(y), [x]) { [graph] dy in
      // The rotation's transpose is the rotation by the opposite angle.
      [
        graph.add(
          ggml_rope_ext_back(
            graph.context, dy.pointer, positions.pointer, factors?.pointer, dimensions, mode, 0, base, scale, 0,
            magnitude, 32, 1))
      ]
    }
  }
}
