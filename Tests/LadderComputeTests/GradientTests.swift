import CLlama
import Testing

import LadderCompute

@Suite(.serialized) struct GradientTests {
  let d: Differences
  init() throws { d = try Differences() }

  @Test func projection() throws {
    try d.check([d.random([24, 7], seed: 1), d.random([24, 10], seed: 2, scale: 0.3)]) { tape, x in
      tape.project(x[0], x[1])
    }
  }

  @Test func projectionOfATap() throws {
    let tap = try d.random([24, 7], seed: 1)
    try d.check([d.random([24, 10], seed: 2, scale: 0.3)]) { tape, x in tape.projectTap(tap, x[0]) }
  }

  /// BF16 keeps 8 bits of each factor: errors of 2⁻⁹ a term, averaged over 64 terms.
  @Test func projectionOfABFloat16Tap() throws {
    let tap = try d.random([64, 33], seed: 1), weight = try d.random([64, 32], seed: 2, scale: 0.1),
      seedGradient = try d.random([32, 33], seed: 3)
    var results: [[Float]] = []
    for type in [ElementType.float32, .bfloat16] {
      let graph = try Graph(d.engine), tape = Tape(graph)
      tape.watch(weight)
      let y = tape.projectTap(graph.cast(tap, type), weight)
      let kept = graph.keep(y)
      tape.backward(from: y, gradient: seedGradient)
      let gradient = graph.keep(try #require(tape.gradient(of: weight)))
      try graph.compute()
      results.append(kept.read() + gradient.read())
    }
    let largest = results[0].map(abs).max() ?? 1
    for (exact, rounded) in zip(results[0], results[1]) { #expect(abs(exact - rounded) < 0.01 * largest) }
  }

  @Test func lowRankProjection() throws {
    try d.check([d.random([24, 7], seed: 1), d.random([24, 3], seed: 2, scale: 0.3), d.random([3, 10], seed: 3)]) {
      tape, x in
      tape.project(tape.project(x[0], x[1]), x[2])
    }
  }

  @Test func pooling() throws { try d.check([d.random([24, 7], seed: 1)]) { tape, x in tape.pool(x[0], width: 6) } }

  @Test func elementwise() throws {
    try d.check([d.random([8, 5], seed: 1), d.random([8, 5], seed: 2)]) { tape, x in tape.add(x[0], x[1]) }
    try d.check([d.random([8, 5], seed: 1), d.random([8, 5], seed: 2)]) { tape, x in tape.subtract(x[0], x[1]) }
    try d.check([d.random([8, 5], seed: 1), d.random([8, 5], seed: 2)]) { tape, x in tape.multiply(x[0], x[1]) }
    try d.check([d.random([8, 5], seed: 1)]) { tape, x in tape.scale(x[0], -1.7) }
    try d.check([d.random([8, 5], seed: 1)]) { tape, x in tape.sigmoid(x[0]) }
    try d.check([d.random([8, 5], seed: 1)]) { tape, x in tape.silu(x[0]) }
    try d.check([d.random([8, 5], seed: 1), d.random([8, 5], seed: 2)]) { tape, x in tape.swiglu(gate: x[0], up: x[1]) }
  }

  @Test func multiplicationByAVectorAndByAScalar() throws {
    try d.check([d.random([8, 5], seed: 1), d.random([8], seed: 2)]) { tape, x in tape.multiply(x[0], x[1]) }
    try d.check([d.random([8, 5], seed: 1), d.random([1], seed: 2)]) { tape, x in tape.multiply(x[0], x[1]) }
  }

  @Test func gateWithTemperature() throws {
    // σ(a/0.1) bends ten times as fast as σ(a): a smaller step.
    try d.check(
      [d.random([8, 5], seed: 1), d.random([8, 5], seed: 2), d.random([1], seed: 3, scale: 0.05)], h: 2e-3,
      tolerance: 1e-2
    ) { tape, x in
      tape.gate(x[0], x[1], x[2], temperature: 0.1)
    }
  }

  @Test func someChannels() throws {
    try d.check([d.random([9, 5], seed: 1)]) { tape, x in
      tape.multiply(tape.channels(2..<6, of: x[0]), tape.channels(5..<9, of: x[0]))
    }
  }

  /// Two of five experts, whose choice no difference of this step changes; grown to shares that matter.
  @Test(arguments: [Float(1), 2.5]) func experts(_ scale: Float) throws {
    let weights = ExpertWeights(
      router: try d.random([16, 5], seed: 2, scale: 0.8), gate: try d.random([16, 12, 5], seed: 3, scale: 0.4),
      up: try d.random([16, 12, 5], seed: 4, scale: 0.4), down: try d.random([12, 16, 5], seed: 5, scale: 0.4), used: 2,
      scale: scale)
    try d.check([d.random([16, 6], seed: 1)], h: 2e-3, tolerance: 1e-2) { tape, x in tape.experts(x[0], weights) }
  }

  @Test func rmsNormalisation() throws {
    try d.check([d.random([16, 5], seed: 1)]) { tape, x in tape.rmsNorm(x[0], epsilon: 1e-6) }
  }

  @Test func softmaxAndItsElements() throws {
    try d.check([d.random([5], seed: 1), d.random([8, 3], seed: 2)]) { tape, x in
      tape.multiply(x[1], tape.element(3, of: tape.softmax(x[0])))
    }
  }

  @Test func rotaryPositions() throws {
    let positions = try d.pool.make([0, 1, 2, 0, 1].map(Int32.init))
    try d.check([d.random([8, 2, 5], seed: 1)]) { tape, x in tape.rope(x[0], positions: positions, base: 10000) }
  }

  @Test func rowSelection() throws {
    let ids = try d.pool.make([1, 4, 5].map(Int32.init))
    try d.check([d.random([8, 6], seed: 1)]) { tape, x in tape.rows(x[0], ids) }
  }

  @Test(arguments: [[5], [3, 4, 2], [11], [2, 9, 3, 3, 1]]) func attention(_ lengths: [Int]) throws {
    let n = lengths.reduce(0, +)
    let blocks = try AttentionBlocks(lengths.map { .init(length: $0) }, rows: 4, pool: d.pool)
    try d.check([d.random([8, 2, n], seed: 1), d.random([8, 2, n], seed: 2), d.random([8, 2, n], seed: 3)]) { tape, x in
      tape.attention(x[0], x[1], x[2], blocks, scale: 0.35)
    }
  }

  @Test func accumulatesThroughSharedInputs() throws {
    try d.check([d.random([8, 5], seed: 1)]) { tape, x in tape.multiply(tape.silu(x[0]), tape.add(x[0], x[0])) }
  }

  /// ggml's own reverse mode over the same forward nodes. Both are F32; sums differ in order alone.
  @Test func agreesWithGgmlsAutodiff() throws {
    let x = try d.random([16, 6], seed: 1), w = try d.random([16, 16], seed: 2, scale: 0.3),
      v = try d.random([16], seed: 3)
    let positions = try d.pool.make((0..<6).map(Int32.init)), c = try d.random([8, 2, 6], seed: 4)

    // The reshape to heads is outside the tapes: the second's gradient seeds the first.
    let graph = try Graph(d.engine)
    let before = Tape(graph)
    [x, w, v].forEach(before.watch)
    let z = before.silu(before.project(before.multiply(before.rmsNorm(x, epsilon: 1e-6), v), w))
    let after = Tape(graph)
    let rotated = graph.reshape(z, [8, 2, 6])
    after.watch(rotated)
    let out = after.rope(rotated, positions: positions, base: 10000)
    after.backward(from: out, gradient: c)
    before.backward(
      from: z, gradient: graph.reshape(graph.contiguous(try #require(after.gradient(of: rotated))), [16, 6]))
    let ours = try [x, w, v].map { graph.keep(graph.contiguous(try #require(before.gradient(of: $0)))) }
    try graph.compute()

    let parameters = ggml_init_params(mem_size: 1 << 24, mem_buffer: nil, no_alloc: false)
    let context = try #require(ggml_init(parameters))
    defer { ggml_free(context) }
    func leaf(_ t: Tensor, parameter: Bool) -> UnsafeMutablePointer<ggml_tensor>? {
      let copy = ggml_dup_tensor(context, t.pointer)
      t.withHostBytes { bytes in
        if let base = bytes.baseAddress, let data = ggml_get_data(copy) {
          data.copyMemory(from: base, byteCount: bytes.count)
        }
      }
      if parameter { ggml_set_param(copy) }
      return copy
    }
    let gx = leaf(x, parameter: true), gw = leaf(w, parameter: true), gv = leaf(v, parameter: true),
      gc = leaf(c, parameter: false),
      gp = leaf(positions, parameter: false)
    let hidden = ggml_silu(context, ggml_mul_mat(context, gw, ggml_mul(context, ggml_rms_norm(context, gx, 1e-6), gv)))
    let turned = ggml_rope_ext(
      context, ggml_reshape_3d(context, hidden, 8, 2, 6), gp, nil, 8, Int32(GGML_ROPE_TYPE_NEOX), 0, 10000, 1, 0, 1, 32,
      1)
    let loss = ggml_sum(context, ggml_mul(context, turned, gc))
    ggml_set_loss(loss)
    let forward = ggml_new_graph_custom(context, 512, true)
    ggml_build_forward_expand(forward, loss)
    ggml_build_backward_expand(context, forward, nil)
    ggml_graph_reset(forward)
    ggml_graph_compute_with_ctx(context, forward, 2)
    for (mine, parameter) in zip(ours, [gx, gw, gv]) {
      let theirs = Tensor(try #require(ggml_graph_get_grad(forward, parameter)))
      let a = mine.read(), p = try #require(ggml_get_data_f32(theirs.pointer))
      for i in a.indices { #expect(abs(a[i] - p[i]) < 10 * d.closeness) }
    }
  }
}

@Suite struct AttentionTests {
  /// The values of each channel lie behind its earlier ones, and nothing else is touched.
  @Test(arguments: [1, 2, 11], [1, 2]) func valuesAreAppendedByChannel(_ n: Int, _ heads: Int) throws {
    let d = try Differences(), head = 16, capacity = 32, past = 7
    let new = try d.random([head, heads, n], seed: 1), whole = try d.random([capacity, head, heads], seed: 2)
    let before = whole.read(), own = new.read(), graph = try Graph(d.engine)
    graph.append(new, toChannelsOf: whole, at: past)
    try graph.compute()
    var expected = before
    for row in 0..<n {
      for channel in 0..<(head * heads) {
        expected[channel * capacity + past + row] = own[row * head * heads + channel]
      }
    }
    #expect(whole.read() == expected)
  }

  /// Packing changes the order of sums alone: F32 rounding.
  @Test func packedSamplesDoNotSeeEachOther() throws {
    let d = try Differences()
    let lengths = [3, 7, 2, 9], n = 21
    let q = try d.random([8, 2, n], seed: 1), k = try d.random([8, 2, n], seed: 2),
      v = try d.random([8, 2, n], seed: 3)
    let graph = try Graph(d.engine), tape = Tape(graph)
    let packed = graph.keep(
      tape.attention(q, k, v, try AttentionBlocks(lengths.map { .init(length: $0) }, rows: 4, pool: d.pool), scale: 0.3)
    )
    var alone: [Tensor] = [], start = 0
    for length in lengths {
      func part(_ x: Tensor) -> Tensor { graph.contiguous(graph.slice(x, 2, start..<(start + length))) }
      let values = graph.contiguous(graph.permute(part(v), [1, 2, 0, 3]))
      alone.append(graph.keep(tape.cachedAttention(part(q), keys: part(k), values: values, scale: 0.3)))
      start += length
    }
    try graph.compute()
    let expected = alone.flatMap { $0.read() }
    for (a, b) in zip(packed.read(), expected) { #expect(abs(a - b) < d.closeness) }
  }

  /// Gradients below half precision's least number, in views whose rows lie apart: the oracle is the host's sum.
  @Test func productsKeepSmallGradients() throws {
    let d = try Differences()
    let gradient = try d.random([40, 3, 33], seed: 1, scale: 1e-9), a = try d.random([64, 36], seed: 2)
    let graph = try Graph(d.engine)
    let heads = graph.permute(gradient, [0, 2, 1, 3])  // [40, 33, 3]
    let part = graph.slice(graph.reshape(a, [64, 12, 3]), 0, 8..<48)  // [40, 12, 3]
    let product = graph.keep(graph.matmul(part, gradient: heads))  // [12, 33, 3]
    try graph.compute()
    let own = product.read(), small = gradient.read(), values = a.read()
    for head in 0..<3 {
      for n in 0..<33 {
        for m in 0..<12 {
          let sum = (0..<40).reduce(0.0) {
            $0 + Double(values[64 * (12 * head + m) + 8 + $1]) * Double(small[40 * (3 * n + head) + $1])
          }
          #expect(abs(Double(own[12 * (33 * head + n) + m]) - sum) < 6e-9 * Double(d.closeness))
        }
      }
    }
  }
}

@Suite struct TransposeTests {
  /// Sizes with and without whole tiles, whole matrices and slices of them, in both types.
  @Test func transposesAreExact() throws {
    let d = try Differences()
    for (k, n, batch) in [(64, 32, 1), (70, 45, 3), (33, 131, 2), (31, 40, 1), (2048, 129, 1)] {
      let a = try d.random([k, n, batch], seed: 1), values = a.read()
      let graph = try Graph(d.engine)
      let whole = graph.keep(graph.transposed(a))
      let part = graph.keep(graph.transposed(graph.slice(a, 1, 5..<n)))
      let rounded = graph.cast(a, .bfloat16)
      let short = graph.keep(graph.cast(graph.transposed(rounded), .float32)),
        back = graph.keep(graph.cast(rounded, .float32))
      try graph.compute()
      func expected(_ values: [Float], _ rows: Range<Int>) -> [Float] {
        (0..<batch).flatMap { b in (0..<k).flatMap { i in rows.map { values[(b * n + $0) * k + i] } } }
      }
      #expect(whole.read() == expected(values, 0..<n))
      #expect(part.read() == expected(values, 5..<n))
      #expect(short.read() == expected(back.read(), 0..<n))
    }
  }
}
