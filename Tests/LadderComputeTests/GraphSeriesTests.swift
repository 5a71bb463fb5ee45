import LadderCore
import Testing

@testable import LadderCompute

@Suite struct GraphSeriesTests {
  /// Sums of a tensor of ones, in a graph of at most `nodes` nodes.
  private func sum(_ ones: Tensor, _ memory: GraphMemory, nodes: Int) throws -> Graph {
    let graph = try Graph(memory, nodes: nodes)
    _ = graph.add(graph.add(ones, ones), ones)
    try graph.compute()
    return graph
  }

  /// A larger graph takes a new scheduler, which may lie where the old one lay and hold as many bytes: smaller graphs
  /// fall all the same.
  @Test func aNewSchedulerDisplacesResults() throws {
    let engine = try Engine(threads: 1, device: "CPU"), memory = GraphMemory(engine), pool = TensorPool(engine)
    let ones = try pool.make([Float](repeating: 1, count: 1024), [1024])
    let small = try sum(ones, memory, nodes: 64)
    #expect(small.stands)
    let bytes = memory.bytes
    let large = try sum(ones, memory, nodes: 4096)
    #expect(memory.bytes == bytes && large.stands && !small.stands)
  }

  /// Past the limit graphs are built in every pass, and give what they should.
  @Test func graphsPastTheLimitAreBuiltAnew() throws {
    let engine = try Engine(threads: 1, device: "CPU"), pool = TensorPool(engine)
    let ones = try pool.make([Float](repeating: 1, count: 64), [64]), result = try pool.make(.float32, [64])
    let series = GraphSeries(engine, limit: 1)
    for pass in 1...3 {
      series.rewind()
      for factor in [2, 3, 4] {
        result.zero()
        try series.run(nodes: 16) { $0.store($0.scale(ones, Float(factor)), in: result) }
        #expect(result.read() == [Float](repeating: Float(factor), count: 64))
      }
      #expect(series.built == 3 + 2 * (pass - 1), "the first alone is kept")
    }
  }
}

@Suite struct TensorPoolTests {
  @Test func aFullPoolThrows() throws {
    let pool = TensorPool(try Engine(threads: 1, device: "CPU"), tensors: 4)
    for _ in 0..<4 { _ = try pool.make(.float32, [8]) }
    #expect(throws: LadderError.self) { try pool.make(.float32, [8]) }
    try pool.reset()
    _ = try pool.make(.float32, [8])
  }
}
