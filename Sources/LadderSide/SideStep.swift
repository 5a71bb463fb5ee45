import LadderBackbone
import LadderCompute

/// One micro-batch through the backbone and a side network: forward over packed samples, and backward layer by layer.
///
/// Forward keeps the standardised taps, what attention gave, and layers' outputs: every layer's, or with xLadder every second or
/// third, so that no more is kept than one climb would. Backward computes what was not kept again, and a layer's inside before it
/// differentiates it, so that no more than one layer's activations exist at a time.
package final class SideStep {
  /// Nil leaves the backbone as it is.
  private let network: SideNetwork?
  private let backbone: Backbone
  private let pool: TensorPool
  private let graph: Graph

  // The micro-batch at hand.
  private var taps: [Tensor] = []  // per rung [d, n] BF16; standardised in place
  private var states: [Tensor] = []  // the last s_j of each run of `interval` layers [w, n]
  private var top: Tensor?  // the last layer's s at the loss rows [w, rows]
  private var gradientOfState: Tensor?  // with respect to the state that the backward pass has come to [w, n]
  private var final: Tensor?  // n [d, rows]
  private var attended: [KeptResults] = []  // attention's result in each layer [w, n]
  private var positions: Tensor?
  private var lossRows: Tensor?
  private var blocks: AttentionBlocks?

  package init(_ network: SideNetwork?, _ backbone: Backbone) throws {
    self.network = network
    self.backbone = backbone
    pool = TensorPool(backbone.engine)
    graph = try Graph(backbone.engine, nodes: 1 << 16)
  }

  /// Bytes held for activations and graphs.
  package var bytes: Int { pool.capacity + graph.workspace }

  /// Takes the samples' taps and final rows from the backbone or from where they are kept.
  package func read(_ samples: [PackedSample], from source: any TapSource) throws {
    try pool.reset()
    let batch = try MicroBatch(samples, pool: pool), d = backbone.width, n = batch.rows, rows = batch.lossRows.count
    taps = try source.rungs.map { _ in try pool.make(.bfloat16, [d, n]) }
    let final = try pool.make(.float32, [d, rows])
    try source.run(samples, taps: taps, final: final)
    self.final = final
    guard let network else { return }
    for tap in taps { tap.zero(from: batch.tokens * tap.stride(1)) }
    let g = network.geometry
    states = try (0..<(g.layers - 1) / g.interval).map { _ in try pool.make(.float32, [g.width, n]) }
    top = try pool.make(.float32, [g.width, rows])
    gradientOfState = try pool.make(.float32, [g.width, n])
    positions = batch.positions
    lossRows = batch.lossRows
    blocks = try AttentionBlocks(lengths: batch.lengths, pool: pool)
  }

  /// - Parameter dropout: the stream that drops tap channels while training; nil drops none.
  /// - Returns: n + Δ at the loss rows, [d, rows]; valid until the next `read`.
  package func forward(dropout: SeededRandom? = nil) throws -> Tensor {
    guard let final else { preconditionFailure("read() comes first") }
    guard let network, let positions, let lossRows, let blocks else { return final }
    try standardise(network, dropout)
    graph.reset()
    network.parameters.round(graph)
    attended = []
    let tape = network.tape(graph)
    var s: Tensor?
    for run in runs(network) {
      for j in run {
        // Attention is the dearest part of a layer; only training comes back for it.
        let kept = dropout == nil ? nil : KeptResults(pool, network.configuration.precision.elementType)
        s = layer(network, network.tape(graph, kept), j, previous: s, positions, blocks)
        try kept?.check()
        if let kept { attended.append(kept) }
      }
      if let output = s, run.upperBound < network.geometry.layers {
        // A graph of its own for each run: its size does not grow with the depth.
        let kept = states[run.upperBound / network.geometry.interval - 1]
        graph.store(output, in: kept)
        try graph.compute()
        graph.reset()
        s = kept
      }
    }
    guard let s, let top else { preconditionFailure("a side network has a layer") }
    let last = graph.store(tape.rows(s, lossRows), in: top)
    graph.store(graph.add(final, network.correction(tape, last)), in: final)
    try graph.compute()
    return final
  }

  /// Adds every parameter's gradient to its buffer. Shapes: gradient [d, rows], with respect to what `forward` returned.
  package func backward(_ gradient: Tensor) throws {
    attended.forEach { $0.replay() }
    func tape(_ network: SideNetwork, _ j: Int) -> Tape { network.tape(graph, j < attended.count ? attended[j] : nil) }
    guard let network, let positions, let lossRows, let blocks, let top else { preconditionFailure("forward() comes first") }
    graph.reset()
    let correction = network.tape(graph)
    correction.watch(top)
    correction.watch(network.parameters["up.weight"])
    correction.backward(from: network.correction(correction, top), gradient: gradient)
    network.parameters.accumulateGradients(["up.weight"], from: correction)
    guard let dTop = correction.gradient(of: top), let gradientOfState else { return }

    var ds: Tensor?  // with respect to the output of layer j; of the last layer, once its output exists
    for run in runs(network).reversed() {
      // The inputs of this run's layers: the first is kept, the others are computed again.
      var inputs = [run.lowerBound > 0 ? states[run.lowerBound / network.geometry.interval - 1] : nil]
      for j in run.dropLast() { inputs.append(layer(network, tape(network, j), j, previous: inputs[j - run.lowerBound], positions, blocks)) }
      for (j, previous) in zip(run, inputs).reversed() {
        let tape = tape(network, j), names = network.layerNames(j)
        names.forEach { tape.watch(network.parameters[$0]) }
        if let previous { tape.watch(previous) }
        let output = layer(network, tape, j, previous: previous, positions, blocks)
        tape.backward(from: output, gradient: ds ?? graph.scattered(dTop, lossRows, like: output))
        network.parameters.accumulateGradients(names, from: tape)
        ds = previous.flatMap(tape.gradient)
      }
      if let next = ds {
        graph.store(next, in: gradientOfState)
        ds = gradientOfState
      }
      try graph.compute()
      graph.reset()
    }
  }

  /// The layers that lie between two kept states.
  private func runs(_ network: SideNetwork) -> [Range<Int>] {
    let layers = network.geometry.layers, interval = network.geometry.interval
    return stride(from: 0, to: layers, by: interval).map { $0..<min($0 + interval, layers) }
  }

  private func layer(
    _ network: SideNetwork, _ tape: Tape, _ j: Int, previous: Tensor?, _ positions: Tensor, _ blocks: AttentionBlocks
  ) -> Tensor {
    let scale = 1 / Float(network.geometry.headSize).squareRoot()
    return network.layer(tape, j, previous: previous, taps: taps, positions: positions) { q, k, v in
      tape.attention(q, k, v, blocks, scale: scale)
    }
  }

  /// Replaces each tap by z(rms(tap)), some rows at a time, so that its copies in F32 stay small and one mask serves all.
  private func standardise(_ network: SideNetwork, _ dropout: SeededRandom?) throws {
    var random = dropout
    let rate = network.configuration.tapDropout
    guard let first = taps.first else { return }
    // Some 2 MB a copy: what one operation wrote is still in the processor's cache when the next reads it.
    let piece = max(32, (2 << 20) / (4 * first[0]) / 32 * 32)
    let mask = random != nil && rate > 0 ? try pool.make(.float32, [first[0], min(piece, first[1])]) : nil
    for (rung, tap) in taps.enumerated() {
      for start in stride(from: 0, to: tap[1], by: piece) {
        let rows = start..<min(start + piece, tap[1])
        graph.reset()
        let part = graph.slice(tap, 1, rows)
        let factors = mask.map { rows.count == $0[1] ? $0 : graph.slice($0, 1, 0..<rows.count) }
        if let mask { random?.fillDropoutMask(mask, rate: rate) }
        graph.store(network.standardised(graph, part, rung: rung, mask: factors), in: part)
        try graph.compute()
      }
    }
  }
}
