import LadderBackbone
import LadderCompute
import LadderCore

/// A side network in step-by-step decoding: it keeps its own keys and values of each text, as the backbone keeps its.
final class SideCorrection: DecoderCorrection {
  private let network: SideNetwork
  private let graph: Graph
  private let nodes: Int

  init(_ network: SideNetwork, _ memory: GraphMemory) throws {
    self.network = network
    nodes = max(16384, Self.nodes(network, texts: 1))
    graph = try Graph(memory, nodes: nodes)
    guard network.parameters.hasTwins else { return }
    network.parameters.round(graph)
    try graph.compute()
  }

  /// Some twenty nodes of each layer for each text, some sixty for all, some twelve for each rung that a layer mixes.
  private static func nodes(_ network: SideNetwork, texts: Int) -> Int {
    let layers = network.geometry.layers, rungs = network.geometry.rungs.count
    let mixed = network.configuration.cross == .mixture ? rungs : 0
    return 256 + 8 * rungs + (60 + 12 * mixed) * layers + 24 * layers * texts
  }

  var textsAtOnce: Int {
    let forAll = Self.nodes(network, texts: 0)
    return (nodes - forAll) / (Self.nodes(network, texts: 1) - forAll)
  }

  func state(capacity: Int) throws -> any DecoderState { try SideState(network, graph, capacity: capacity) }

  func correct(
    _ final: Tensor?, taps: [Tensor], _ texts: [DecodedPart], at place: (token: Int, text: Int), pool: TensorPool
  ) throws {
    let geometry = network.geometry
    let positions = try pool.make(texts.flatMap { text in (text.past..<(text.past + text.tokens)).map(Int32.init) })
    let ends = texts.reduce(into: [Int32]()) { ends, text in ends.append((ends.last ?? -1) + Int32(text.tokens)) }
    let lastRows = try final.map { _ in try pool.make(ends) }
    let states = texts.compactMap { $0.state as? SideState }
    precondition(states.count == texts.count, "a text's state is of another method")

    graph.reset()
    let tape = network.tape(graph)
    let scale = 1 / Float(geometry.headSize).squareRoot()
    // The same rounding to BF16 as in training.
    let count = texts.reduce(0) { $0 + $1.tokens }
    let standardised = taps.enumerated().map { rung, tap in
      let own = tap[1] == count ? tap : graph.slice(tap, 1, place.token..<(place.token + count))
      return graph.cast(network.standardised(graph, own, rung: rung, mask: nil), .bfloat16)
    }
    var below: Tensor?  // [w, n]
    for layer in 0..<geometry.layers {
      below = network.layer(tape, layer, previous: below, taps: standardised, positions: positions) { q, k, v in
        var mixed: [Tensor] = []  // each [head, heads, tokens]
        for (index, text) in texts.enumerated() {
          let rows = (Int(ends[index]) + 1 - text.tokens)..<(Int(ends[index]) + 1)
          let seen = text.past + text.tokens, keys = states[index].keys[layer], values = states[index].values[layer]
          graph.store(graph.slice(k, 2, rows), in: graph.slice(keys, 2, text.past..<seen))
          graph.append(graph.slice(v, 2, rows), toChannelsOf: values, at: text.past)
          mixed.append(
            tape.cachedAttention(
              graph.slice(q, 2, rows), keys: graph.slice(keys, 2, 0..<seen), values: graph.slice(values, 0, 0..<seen),
              scale: scale))
        }
        return graph.concatenate(mixed, 2)
      }
    }
    if let below, let final, let lastRows {
      let own = final[1] == texts.count ? final : graph.slice(final, 1, place.text..<(place.text + texts.count))
      graph.store(graph.add(own, network.correction(tape, graph.rows(of: below, lastRows))), in: own)
    }
    try graph.compute()
  }
}

/// A side network's keys and values of one text.
private final class SideState: DecoderState {
  let capacity: Int
  let keys: [Tensor]  // per layer [head, heads, capacity]
  let values: [Tensor]  // per layer [capacity, head, heads]: each channel's are neighbours
  private let network: SideNetwork
  private let graph: Graph
  private let pool: TensorPool

  init(_ network: SideNetwork, _ graph: Graph, capacity: Int) throws {
    let geometry = network.geometry, pool = TensorPool(network.engine, tensors: 2 * geometry.layers)
    func room(_ shape: [Int]) throws -> [Tensor] {
      try (0..<geometry.layers).map { _ in try pool.make(.float32, shape) }
    }
    keys = try room([geometry.headSize, geometry.heads, capacity])
    values = try room([capacity, geometry.headSize, geometry.heads])
    self.capacity = capacity
    self.network = network
    self.graph = graph
    self.pool = pool
  }

  func copy(tokens: Int, capacity: Int) throws -> any DecoderState {
    precondition(tokens <= min(capacity, self.capacity))
    let other = try SideState(network, graph, capacity: capacity)
    guard tokens > 0 else { return other }
    graph.reset()
    for layer in keys.indices {
      graph.store(graph.slice(keys[layer], 2, 0..<tokens), in: graph.slice(other.keys[layer], 2, 0..<tokens))
      graph.store(graph.slice(values[layer], 0, 0..<tokens), in: graph.slice(other.values[layer], 0, 0..<tokens))
    }
    try graph.compute()
    return other
  }
}

extension TextDecoder {
  /// - Parameter forward: hands out the network's rungs.
  package convenience init(_ network: SideNetwork, _ forward: ForwardPass, slots: Int = 1) throws {
    try self.init(forward, slots: slots, correction: try SideCorrection(network, GraphMemory(network.engine)))
  }
}
