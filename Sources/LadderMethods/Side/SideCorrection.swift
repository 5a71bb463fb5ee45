import LadderBackbone
import LadderCompute
import LadderCore

/// A side network in step-by-step decoding: it keeps its own keys and values, as the backbone keeps its.
final class SideCorrection: DecoderCorrection {
  private let network: SideNetwork
  private let cache: TensorPool
  private let graph: Graph
  private let keys: [Tensor]  // per layer [head, heads, capacity, slots]
  private let values: [Tensor]  // per layer [capacity, head, heads, slots]: each channel's are neighbours

  init(_ network: SideNetwork, capacity: Int, slots: Int) throws {
    self.network = network
    let cache = TensorPool(network.engine)
    let geometry = network.geometry
    self.cache = cache
    graph = try Graph(network.engine)
    func room(_ shape: [Int]) throws -> [Tensor] {
      try (0..<geometry.layers).map { _ in try cache.make(.float32, shape + [slots]) }
    }
    keys = try room([geometry.headSize, geometry.heads, capacity])
    values = try room([capacity, geometry.headSize, geometry.heads])
    network.parameters.round(graph)
    try graph.compute()
  }

  /// Adds Δ of the last row of each extension to `final`.
  func correct(_ final: Tensor, taps: [Tensor], _ extensions: [ForwardPass.Extension], pool: TensorPool) throws {
    let geometry = network.geometry
    let positions = try pool.make(
      extensions.flatMap { added in added.tokens.indices.map { Int32(added.past + $0) } })
    let ends = extensions.reduce(into: [Int32]()) { ends, added in
      ends.append((ends.last ?? -1) + Int32(added.tokens.count))
    }
    let lastRows = try pool.make(ends)

    graph.reset()
    let tape = network.tape(graph)
    let scale = 1 / Float(geometry.headSize).squareRoot()
    // The same rounding to BF16 as in training.
    let standardised = taps.enumerated().map { rung, tap in
      graph.cast(network.standardised(graph, tap, rung: rung, mask: nil), .bfloat16)
    }
    var state: Tensor?  // [w, n]
    for layer in 0..<geometry.layers {
      state = network.layer(tape, layer, previous: state, taps: standardised, positions: positions) { q, k, v in
        let mixed = zip(extensions, ends).map { added, end in  // each [head, heads, tokens]
          let rows = (Int(end) + 1 - added.tokens.count)..<(Int(end) + 1)
          let seen = added.past + added.tokens.count
          let ownKeys = graph.slice(keys[layer], 3, added.sequence..<(added.sequence + 1))
          let ownValues = graph.slice(values[layer], 3, added.sequence..<(added.sequence + 1))
          graph.store(graph.slice(k, 2, rows), in: graph.slice(ownKeys, 2, added.past..<seen))
          graph.store(
            graph.permute(graph.slice(v, 2, rows), [1, 2, 0, 3]), in: graph.slice(ownValues, 0, added.past..<seen))
          return tape.cachedAttention(
            graph.slice(q, 2, rows), keys: graph.slice(ownKeys, 2, 0..<seen),
            values: graph.slice(ownValues, 0, 0..<seen), scale: scale)
        }
        return graph.concatenate(mixed, 2)
      }
    }
    if let state {
      graph.store(graph.add(final, network.correction(tape, graph.rows(of: state, lastRows))), in: final)
    }
    try graph.compute()
  }
}

extension TextDecoder {
  /// - Parameter forward: hands out the network's rungs.
  package convenience init(_ network: SideNetwork, _ forward: ForwardPass, slots: Int = 1) throws {
    try self.init(forward, slots: slots) { try SideCorrection(network, capacity: $0, slots: slots) }
  }
}
