import Testing

@testable import LadderCompute

/// What stands in for an operation that a device lacks gives what the operation gives.
@Suite(.serialized) struct SubstituteTests {
  let d: Differences
  init() throws { d = try Differences() }

  private func same(_ build: (Graph) throws -> (Tensor, Tensor)) throws {
    let graph = try Graph(d.engine), pair = try build(graph)
    let (native, composed) = (graph.keep(pair.0), graph.keep(pair.1))
    try graph.compute()
    #expect(native.shape == composed.shape)
    let expected = native.read(), own = composed.read()
    #expect(zip(expected, own).allSatisfy { abs($0 - $1) < 1e-5 } && expected.contains { abs($0) > 0.01 })
  }

  @Test func softmax() throws {
    let dy = try d.random([12, 5, 2], seed: 1), x = try d.random([12, 5, 2], seed: 2)
    try same { graph in
      let y = graph.keep(graph.softmax(graph.scale(x, 1)))
      return (graph.softmaxBack(dy, y, scale: 0.3), graph.composedSoftmaxBack(dy, y, scale: 0.3))
    }
  }

  /// What one operation may take at most changes nothing.
  @Test func operationsInPieces() throws {
    let x = try d.random([12, 9], seed: 1), dy = try d.random([12, 9], seed: 2), part = try d.random([12, 3], seed: 3)
    func run() throws -> [Float] {
      let graph = try Graph(d.engine)
      let slope = graph.keep(graph.siluBack(dy, x))
      let sum = graph.keep(graph.accumulate(part, into: graph.scale(x, 2), 1, at: 4))
      try graph.compute()
      return slope.read() + sum.read()
    }
    let whole = try run(), usual = d.engine.mostNumbers
    d.engine.mostNumbers = 100
    defer { d.engine.mostNumbers = usual }
    for (a, b) in zip(try run(), whole) { #expect(abs(a - b) < 1e-5) }
  }

  @Test func silu() throws {
    let dy = try d.random([12, 5], seed: 1), x = try d.random([12, 5], seed: 2)
    try same { ($0.siluBack(dy, x), $0.composedSiLUBack(dy, x)) }
  }

  @Test func rmsNorm() throws {
    let dy = try d.random([12, 5], seed: 1), x = try d.random([12, 5], seed: 2)
    try same { ($0.rmsNormBack(dy, x, 1e-3), $0.composedRMSNormBack(dy, x, 1e-3)) }
  }

  @Test(arguments: [[1, 5, 3], [12, 1, 3], [12, 5, 1], [12, 1, 1], [1, 1, 3]]) func sums(_ shape: [Int]) throws {
    let a = try d.random([12, 5, 3], seed: 1), like = try d.random(shape, seed: 2)
    try same { ($0.sumTo(a, like: like), $0.composedSum(a, like: like)) }
  }

  @Test func scatter() throws {
    let rows = try d.random([12, 3], seed: 1), like = try d.random([12, 6], seed: 2)
    let ids = try d.pool.make([Int32(4), 0, 5])
    try same { ($0.scattered(rows, ids, like: like), $0.composedScatter(rows, ids, like: like)) }
  }
}
