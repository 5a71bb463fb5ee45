import CKernels
import CLlama
import LadderCore
import Testing

@testable import LadderCompute

/// The kernels of `QuantisedProduct` against ggml's on the same weights.
@Suite(.enabled(if: ladder_multiplies_quantised(8, 32) != 0, "a processor with the kernels"))
struct QuantisedProductTests {
  let engine: Engine
  let pool: TensorPool

  init() throws {
    engine = try Engine(threads: 3, device: "CPU")
    pool = TensorPool(engine)
  }

  private func random(_ shape: [Int], seed: Int) throws -> Tensor {
    var random = SeededRandom(seed: 3, seed)
    return try pool.make((0..<shape.reduce(1, *)).map { _ in random.normal() }, shape)
  }

  private func weight(_ type: ggml_type, _ k: Int, _ m: Int) throws -> Tensor {
    let values = try random([k, m], seed: 1).read(), weight = try pool.make(ggmlType: type, [k, m])
    weight.withHostBytes { bytes in
      _ = ggml_quantize_chunk(type, values, bytes.baseAddress, 0, Int64(m), Int64(k), nil)
    }
    return weight
  }

  /// By ours, and by ggml's.
  private func products(_ weight: Tensor, _ x: Tensor) throws -> (own: [Float], engine: [Float]) {
    let graph = try Graph(engine)
    #expect(QuantisedProduct.type(engine, weight, x) != nil)
    let own = graph.keep(graph.matmul(frozen: weight, x)), other = graph.keep(graph.matmul(weight, x))
    try graph.compute()
    return (own.read(), other.read())
  }

  /// With the vectors of AVX2, which a processor with wider ones has too.
  private func narrow<Result>(_ body: () throws -> Result) rethrows -> Result {
    ladder_limit_quantised(1)
    defer { ladder_limit_quantised(2) }
    return try body()
  }

  private func expectClose(
    _ products: (own: [Float], engine: [Float]), sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let size = products.engine.reduce(0) { $0 + abs($1) } / Float(products.engine.count)
    for (a, b) in zip(products.own, products.engine) {
      #expect(abs(a - b) <= 2e-5 * size, sourceLocation: sourceLocation)
    }
  }

  /// Sizes around the kernels' steps: panels of 16 entries, tiles of 8, 4, 2 and 1 rows, threads' parts.
  @Test(
    arguments: [GGML_TYPE_Q8_0, GGML_TYPE_Q5_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K],
    [[256, 16, 8], [768, 250, 15], [256, 1, 4], [2048, 700, 203], [512, 17, 97]])
  func productsAreTheEngines(_ type: ggml_type, _ sizes: [Int]) throws {
    let weight = try weight(type, sizes[0], sizes[1]), x = try random([sizes[0], sizes[2]], seed: 2)
    let wide = try products(weight, x), narrow = try narrow { try products(weight, x) }
    expectClose(wide)
    expectClose(narrow)
    #expect(wide.own == narrow.own)
  }

  /// Widths that are no multiple of 256, as of Gemma 3 270M and Qwen2.5 0.5B; one row has a kernel of its own.
  @Test(arguments: [GGML_TYPE_Q8_0, GGML_TYPE_Q5_0, GGML_TYPE_Q4_0], [32, 640, 896, 96])
  func narrowWeightsHaveBlocksOf32(_ type: ggml_type, _ width: Int) throws {
    let weight = try weight(type, width, 103)
    for rows in [1, 3] {
      let x = try random([width, rows], seed: 2), wide = try products(weight, x)
      expectClose(wide)
      #expect(try narrow { try products(weight, x).own } == wide.own)
    }
  }

  /// A row's numbers do not depend on what it is multiplied together with, nor on whether it is at all.
  @Test(arguments: [GGML_TYPE_Q8_0, GGML_TYPE_Q5_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K])
  func rowsAreByThemselves(_ type: ggml_type) throws {
    let weight = try weight(type, 768, 301), all = try random([768, 31], seed: 5)
    let together = try products(weight, all).own
    for row in [0, 7, 8, 30] {
      let alone = try pool.make(Array(all.read()[(row * 768)..<((row + 1) * 768)]), [768, 1])
      let expected = Array(together[(row * 301)..<((row + 1) * 301)])
      #expect(try products(weight, alone).own == expected)
      #expect(try narrow { try products(weight, alone).own } == expected)
    }
  }

  /// Zeros, one large number among small ones, and both signs at the ends of 8 bits.
  @Test(arguments: [GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K]) func rowsOfEveryRange(_ type: ggml_type) throws {
    var values = [Float](repeating: 0, count: 256 * 5)
    for i in 0..<256 {
      values[256 + i] = i == 40 ? -1e4 : 1e-3
      values[512 + i] = i % 2 == 0 ? 1 : -1
      values[768 + i] = i < 128 ? 0 : 1e-30
      values[1024 + i] = Float(i) - 128
    }
    let x = try pool.make(values, [256, 5])
    let (own, engine) = try products(weight(type, 256, 40), x)
    for row in 0..<5 {
      expectClose((Array(own[(row * 40)..<((row + 1) * 40)]), Array(engine[(row * 40)..<((row + 1) * 40)])))
    }
  }

  /// A number that is none spoils its row, and no other.
  @Test(arguments: [GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K], [Float.nan, .infinity])
  func noNumberStaysOne(_ type: ggml_type, _ value: Float) throws {
    var values = try random([256, 5], seed: 8).read()
    values[256 * 2 + 77] = value
    let weight = try weight(type, 256, 20), graph = try Graph(engine)
    let own = graph.keep(graph.matmul(frozen: weight, try pool.make(values, [256, 5])))
    try graph.compute()
    for (place, number) in own.read().enumerated() { #expect(number.isFinite == (place / 20 != 2)) }
  }

  /// Some rows of a matrix, with an input that is rounded once; and another's views, which ggml multiplies.
  @Test func rangesOfRows() throws {
    let weight = try weight(GGML_TYPE_Q5_0, 64, 130), x = try random([64, 9], seed: 6)
    let graph = try Graph(engine), whole = graph.keep(graph.matmul(frozen: weight, x)),
      input = graph.input(x, for: weight)
    let parts = [0..<50, 50..<130].map { graph.keep(graph.matmul(frozen: graph.slice(weight, 1, $0), input)) }
    let turned = try random([9, 64], seed: 7)
    let view = graph.input(graph.add(ggml_transpose(graph.context, turned.pointer)), for: weight)
    try graph.compute()
    for row in 0..<9 {
      let own = Array(whole.read()[(row * 130)..<((row + 1) * 130)])
      #expect(Array(parts[0].read()[(row * 50)..<((row + 1) * 50)]) == Array(own[..<50]))
      #expect(Array(parts[1].read()[(row * 80)..<((row + 1) * 80)]) == Array(own[50...]))
    }
    guard case .plain = view else { return #expect(Bool(false), "rows whose numbers lie apart are ggml's") }
  }
}
