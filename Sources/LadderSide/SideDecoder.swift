import LadderBackbone
import LadderCompute

/// Step-by-step decoding of one or several texts: the side network keeps its own keys and values, as the backbone keeps its.
package final class SideDecoder {
  /// Nil decodes with the backbone as it is.
  private let network: SideNetwork?
  private let forward: ForwardPass
  /// Texts at once.
  package let slots: Int
  /// Tokens of one text.
  private let capacity: Int
  private let cache: TensorPool
  private let step: TensorPool
  private let graph: Graph
  private var keys: [Tensor] = []  // per layer [head, heads, capacity, slots]
  private var values: [Tensor] = []
  /// Tokens that each text holds.
  package private(set) var pasts: [Int]

  /// - Parameter slots: texts at once; they share what `forward` sets aside.
  package init(_ network: SideNetwork?, _ forward: ForwardPass, slots: Int = 1) throws {
    precondition(slots <= forward.maxSequences)
    self.network = network
    self.forward = forward
    self.slots = slots
    capacity = forward.maxTokens / slots
    pasts = [Int](repeating: 0, count: slots)
    let engine = forward.backbone.engine
    cache = TensorPool(engine)
    step = TensorPool(engine)
    graph = try Graph(engine)
    if let g = network?.geometry {
      keys = try (0..<g.layers).map { _ in try cache.make(.float32, [g.headSize, g.heads, capacity, slots]) }
      values = try (0..<g.layers).map { _ in try cache.make(.float32, [g.headSize, g.heads, capacity, slots]) }
    }
    if let network {
      network.parameters.round(graph)
      try graph.compute()
    }
    forward.clear()
  }

  /// Starts new texts.
  package func reset() {
    forward.clear()
    for slot in pasts.indices { pasts[slot] = 0 }
  }

  /// Starts a new text in one slot.
  package func reset(slot: Int) {
    forward.clear(sequence: slot)
    pasts[slot] = 0
  }

  /// Takes a text's next tokens; returns n + Δ at the last of them, [d, 1], valid until the next call.
  /// - Throws: `usage` where the text outgrows the cache.
  package func extend(_ tokens: [Int32], slot: Int = 0) throws -> Tensor {
    // Long prompts go in pieces, so that no T×T scores exist.
    let piece = 256
    var start = 0
    while tokens.count - start > piece {
      _ = try advance([(slot, Array(tokens[start..<(start + piece)]))])
      start += piece
    }
    return try advance([(slot, Array(tokens[start...]))])
  }

  /// Takes one token of each of several texts; returns n + Δ at each, [d, texts], valid until the next call.
  package func extend(_ tokens: [(slot: Int, token: Int32)]) throws -> Tensor { try advance(tokens.map { ($0.slot, [$0.token]) }) }

  private func advance(_ texts: [(slot: Int, tokens: [Int32])]) throws -> Tensor {
    for (slot, tokens) in texts where pasts[slot] + tokens.count > capacity {
      throw LadderError(.usage, "the text outgrows the \(capacity) tokens that were set aside; ask for fewer")
    }
    try step.reset()
    let extensions = texts.map { ForwardPass.Extension(sequence: $0.slot, past: pasts[$0.slot], tokens: $0.tokens) }
    let n = texts.reduce(0) { $0 + $1.tokens.count }, d = forward.backbone.width
    let taps = try forward.rungs.map { _ in try step.make(.bfloat16, [d, n]) }
    let final = try step.make(.float32, [d, texts.count])
    try forward.extend(extensions, taps: taps, final: final)
    if let network { try correct(final, taps, extensions, network) }
    for (slot, tokens) in texts { pasts[slot] += tokens.count }
    return final
  }

  /// Adds Δ of the last row of each extension to `final`.
  private func correct(_ final: Tensor, _ taps: [Tensor], _ extensions: [ForwardPass.Extension], _ network: SideNetwork) throws {
    let g = network.geometry
    let positions = try step.make(extensions.flatMap { e in e.tokens.indices.map { Int32(e.past + $0) } })
    let ends = extensions.reduce(into: [Int32]()) { ends, e in ends.append((ends.last ?? -1) + Int32(e.tokens.count)) }
    let lastRows = try step.make(ends)

    graph.reset()
    let tape = network.tape(graph), scale = 1 / Float(g.headSize).squareRoot()
    // The same rounding to BF16 as in training.
    let standardised = taps.enumerated().map { rung, tap in
      graph.cast(network.standardised(graph, tap, rung: rung, mask: nil), .bfloat16)
    }
    var s: Tensor?
    for j in 0..<g.layers {
      s = network.layer(tape, j, previous: s, taps: standardised, positions: positions) { q, k, v in
        let mixed = zip(extensions, ends).map { e, end in  // each [head, heads, tokens]
          let rows = (Int(end) + 1 - e.tokens.count)..<(Int(end) + 1), seen = e.past + e.tokens.count
          let ownKeys = graph.slice(keys[j], 3, e.sequence..<(e.sequence + 1)), ownValues = graph.slice(values[j], 3, e.sequence..<(e.sequence + 1))
          graph.store(graph.slice(k, 2, rows), in: graph.slice(ownKeys, 2, e.past..<seen))
          graph.store(graph.slice(v, 2, rows), in: graph.slice(ownValues, 2, e.past..<seen))
          return tape.cachedAttention(
            graph.slice(q, 2, rows), keys: graph.slice(ownKeys, 2, 0..<seen), values: graph.slice(ownValues, 2, 0..<seen), scale: scale)
        }
        return graph.concatenate(mixed, 2)
      }
    }
    if let s { graph.store(graph.add(final, network.correction(tape, graph.rows(of: s, lastRows))), in: final) }
    try graph.compute()
  }
}
