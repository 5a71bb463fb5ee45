import LadderCore
import Testing

@testable import LadderCompute

/// The kernels of `DenseProduct` against plain sums.
@Suite struct DenseProductTests {
  let engine: Engine
  let pool: TensorPool

  init() throws {
    engine = try Engine(threads: 3, device: "CPU")
    engine.usesDenseProducts = true
    pool = TensorPool(engine)
  }

  private func random(_ shape: [Int], seed: Int) throws -> Tensor {
    var random = SeededRandom(seed: 2, seed)
    return try pool.make((0..<shape.reduce(1, *)).map { _ in random.normal() }, shape)
  }

  /// Sizes around the kernels' steps: panels of 16 or 32 lanes, 6 or 12 rows, 256 channels, 96 rows.
  @Test(
    .enabled(if: Sizes.areServed, "a processor with the kernels"),
    arguments: [
      Sizes(k: 256, m: 256, n: 96), Sizes(k: 1, m: 1, n: 8), Sizes(k: 257, m: 33, n: 97), Sizes(k: 640, m: 15, n: 11),
      Sizes(k: 37, m: 530, n: 203), Sizes(k: 530, m: 16, n: 301), Sizes(k: 16, m: 300, n: 64),
      Sizes(k: 64, m: 70, n: 40, heads: 4, shared: 2), Sizes(k: 20, m: 9, n: 130, heads: 6, shared: 1),
      Sizes(k: 643, m: 77, n: 1), Sizes(k: 70_000, m: 3, n: 2),
    ], [ElementType.float32, .bfloat16])
  func productsAreTheSums(_ s: Sizes, _ type: ElementType) throws {
    let w = try random([s.k, s.m, s.shared], seed: 1), x = try random([s.k, s.n, s.heads], seed: 2)
    var y = try random([s.m, s.n, s.heads], seed: 3)
    if type == .bfloat16, DenseProduct.rounds {
      // What an operand in BF16 is multiplied with is rounded too.
      let rounding = try Graph(engine), target = try pool.make(.float32, y.shape)
      rounding.store(rounding.cast(rounding.cast(y, type), .float32), in: target)
      y = target
      try rounding.compute()
    }
    let graph = try Graph(engine)
    // Twice: the threads' shares are handed out anew for each product.
    for _ in 0..<2 {
      graph.reset()
      let rounded = type == .float32 ? w : graph.keep(graph.cast(w, type))
      let left = type == .float32 ? x : graph.keep(graph.cast(x, type))
      // An operand in F32 beside one in BF16.
      let mixed = DenseProduct.rounds && type != .float32 ? graph.keep(try #require(graph.product(rounded, x))) : nil
      let forward = graph.keep(try #require(graph.product(rounded, left)))
      let back = s.n >= 8 ? graph.keep(try #require(graph.product(transpose: rounded, y))) : nil
      let sum = s.m >= 8 ? graph.keep(try #require(graph.product(sumOver: left, y))) : nil
      let weights = graph.keep(graph.cast(rounded, .float32)), inputs = graph.keep(graph.cast(left, .float32))
      try graph.compute()
      let (wv, xv, yv) = (weights.read(), inputs.read(), y.read())
      let (forwardValues, backValues, sums) = (forward.read(), back?.read(), sum?.read())
      if let mixed { for (a, b) in zip(mixed.read(), forwardValues) { #expect(abs(a - b) < 1e-4) } }
      for head in 0..<s.heads {
        let own = head / (s.heads / s.shared)
        func weight(_ k: Int, _ m: Int) -> Double { Double(wv[(own * s.m + m) * s.k + k]) }
        func input(_ k: Int, _ n: Int) -> Double { Double(xv[(head * s.n + n) * s.k + k]) }
        func output(_ m: Int, _ n: Int) -> Double { Double(yv[(head * s.n + n) * s.m + m]) }
        func close(_ value: Float, _ sum: Double, _ terms: Int) -> Bool {
          abs(Double(value) - sum) < 1e-6 * Double(terms) + 1e-5
        }
        for m in 0..<s.m {
          for n in 0..<s.n {
            let sum = (0..<s.k).reduce(0) { $0 + weight($1, m) * input($1, n) }
            #expect(close(forwardValues[(head * s.n + n) * s.m + m], sum, s.k))
          }
        }
        for k in 0..<s.k {
          for n in 0..<s.n {
            guard let backValues else { break }
            let sum = (0..<s.m).reduce(0) { $0 + weight(k, $1) * output($1, n) }
            #expect(close(backValues[(head * s.n + n) * s.k + k], sum, s.m))
          }
          for m in 0..<s.m {
            guard let sums else { break }
            let sum = (0..<s.n).reduce(0) { $0 + input(k, $1) * output(m, $1) }
            #expect(close(sums[(head * s.m + m) * s.k + k], sum, s.n))
          }
        }
      }
    }
  }

  /// Views whose rows lie apart, as attention has its heads.
  @Test(.enabled(if: Sizes.areServed, "a processor with the kernels")) func viewsAreReadWhereTheyLie() throws {
    let x = try random([16, 3, 50], seed: 4), y = try random([16, 3, 50], seed: 5)
    let graph = try Graph(engine)
    func heads(_ a: Tensor, _ range: Range<Int>) -> Tensor { graph.permute(graph.slice(a, 2, range), [0, 2, 1, 3]) }
    let a = heads(x, 8..<41), b = heads(y, 10..<50)
    let own = graph.keep(try #require(graph.product(a, b)))
    let other = graph.keep(graph.matmul(graph.contiguous(a), graph.contiguous(b)))
    try graph.compute()
    for (a, b) in zip(own.read(), other.read()) { #expect(abs(a - b) < 1e-4) }
  }
}

/// Shapes of a product: W [k, m, shared], x [k, n, heads].
struct Sizes: Sendable, CustomTestStringConvertible {
  var k: Int
  var m: Int
  var n: Int
  var heads = 1
  var shared = 1

  var testDescription: String { "\(k) × \(m) × \(n), \(heads) heads on \(shared)" }

  static var areServed: Bool { DenseProduct.isAvailable }
}
