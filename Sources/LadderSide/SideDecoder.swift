import LadderBackbone
import LadderCompute

/// Step-by-step decoding: the side network keeps its own keys and values, as the backbone keeps its.
package final class SideDecoder {
  /// Nil decodes with the backbone as it is.
  private let network: SideNetwork?
  private let forward: ForwardPass
  private let capacity: Int
  private let cache: TensorPool
  private let step: TensorPool
  private let graph: Graph
  private var keys: [Tensor] = []  // per layer [head, heads, capacity]
  private var values: [Tensor] = []
  package private(set) var past = 0

  package init(_ network: SideNetwork?, _ forward: ForwardPass) throws {
    self.network = network
    self.forward = forward
    capacity = forward.maxTokens
    let engine = forward.backbone.engine
    cache = TensorPool(engine)
    step = TensorPool(engine)
    graph = try Graph(engine)
    if let g = network?.geometry {
      keys = try (0..<g.layers).map { _ in try cache.make(.float32, [g.headSize, g.heads, capacity]) }
      values = try (0..<g.layers).map { _ in try cache.make(.float32, [g.headSize, g.heads, capacity]) }
    }
    if let network {
      network.parameters.round(graph)
      try graph.compute()
    }
    forward.clear()
  }

  /// Starts a new text.
  package func reset() {
    forward.clear()
    past = 0
  }

  /// Takes the text's next tokens; returns n + Δ at the last of them, [d, 1], valid until the next call.
  /// - Throws: `usage` where the text outgrows the cache.
  package func extend(_ tokens: [Int32]) throws -> Tensor {
    // Long prompts go in pieces, so that no T×T scores exist.
    let piece = 256
    var start = 0
    while tokens.count - start > piece {
      _ = try advance(Array(tokens[start..<(start + piece)]))
      start += piece
    }
    return try advance(Array(tokens[start...]))
  }

  private func advance(_ tokens: [Int32]) throws -> Tensor {
    guard past + tokens.count <= capacity else {
      throw LadderError(.usage, "the text outgrows the \(capacity) tokens that were set aside; ask for fewer")
    }
    try step.reset()
    let n = tokens.count, d = forward.backbone.width
    let taps = try forward.rungs.map { _ in try step.make(.bfloat16, [d, n]) }
    let final = try step.make(.float32, [d, 1])
    try forward.extend(tokens, past: past, taps: taps, final: final)
    if let network { try correct(final, taps, n, network) }
    past += n
    return final
  }

  /// Adds Δ of the last of `n` new rows to `final`.
  private func correct(_ final: Tensor, _ taps: [Tensor], _ n: Int, _ network: SideNetwork) throws {
    let g = network.geometry
    let positions = try step.make((0..<n).map { Int32(past + $0) })

    graph.reset()
    let tape = network.tape(graph), scale = 1 / Float(g.headSize).squareRoot(), range = past..<(past + n)
    // The same rounding to BF16 as in training.
    let standardised = taps.enumerated().map { rung, tap in
      graph.cast(network.standardised(graph, tap, rung: rung, mask: nil), .bfloat16)
    }
    var s: Tensor?
    for j in 0..<g.layers {
      s = network.layer(tape, j, previous: s, taps: standardised, positions: positions) { q, k, v in
        graph.store(k, in: graph.slice(keys[j], 2, range))
        graph.store(v, in: graph.slice(values[j], 2, range))
        let seen = 0..<range.upperBound
        return tape.cachedAttention(q, keys: graph.slice(keys[j], 2, seen), values: graph.slice(values[j], 2, seen), scale: scale)
      }
    }
    if let s {
      let last = graph.contiguous(graph.slice(s, 1, (n - 1)..<n))
      graph.store(graph.add(final, network.correction(tape, last)), in: final)
    }
    try graph.compute()
  }
}
