import LadderBackbone
import LadderCompute
import LadderCore
import LadderData

/// One micro-batch through the backbone and a side network: forward over packed samples, and backward layer by layer.
///
/// Forward keeps the standardised taps, what attention gave, and layers' outputs: every layer's, or with xLadder every
/// second or third, so that no more is kept than one climb would. Of a small micro-batch it keeps the products too, as
/// long as they are few enough to stay in a processor's cache. Backward computes what was not kept again, and a layer's
/// inside before it differentiates it, so that no more than one layer's activations exist at a time.
///
/// A micro-batch laid out like the last one allocates nothing and runs the last one's graphs.
package final class SideStep {
  private let network: SideNetwork
  private let backbone: Backbone
  private let pool: TensorPool
  private let graphs: GraphSeries
  private let tasks: HostTasks
  private var activations: Activations?
  private var trains: Bool?

  /// The tensors of one micro-batch.
  private struct Activations {
    let batch: MicroBatch
    let taps: [Tensor]  // per rung [d, n] BF16; standardised in place
    let final: Tensor  // n, then n + Δ [d, rows]
    var side: Side
  }

  /// Those of the side network.
  private struct Side {
    let states: [Tensor]  // the last s_j of each run of `interval` layers [w, n]
    let top: Tensor  // the last layer's s at the loss rows [w, rows]
    let gradientOfState: Tensor  // with respect to the state that the backward pass has come to [w, n]
    let kept: [KeptResults]  // of each layer attention's result [w, n], and of a small micro-batch the products
    let blocks: AttentionBlocks
    var mask: Tensor?  // dropout's, over some rows of a tap [d, rows]
  }

  package init(_ network: SideNetwork, _ backbone: Backbone) throws {
    self.network = network
    self.backbone = backbone
    pool = TensorPool(backbone.engine)
    graphs = GraphSeries(backbone.engine)
    tasks = try HostTasks(backbone.engine)
  }

  /// Bytes held for activations and graphs.
  package var bytes: Int { pool.capacity + graphs.bytes }
  /// Graphs built so far.
  package var graphsBuilt: Int { graphs.built }

  /// Takes the samples' taps and final rows from the backbone or from where they are kept.
  package func read(_ samples: [PackedSample], from source: any TapSource) throws {
    let laidOut = try layOut(samples, rungs: source.rungs.count)
    try source.run(samples, taps: laidOut.taps, final: laidOut.final)
    for tap in laidOut.taps { tap.zero(from: laidOut.batch.tokens * tap.stride(1)) }
  }

  /// The last micro-batch's tensors where the samples are laid out like its own, else new ones.
  private func layOut(_ samples: [PackedSample], rungs: Int) throws -> Activations {
    if let activations, activations.taps.count == rungs, activations.batch.isLaidOut(like: samples) {
      return activations
    }
    activations = nil
    graphs.forget()
    try pool.reset()
    let batch = try MicroBatch(samples, pool: pool)
    let rows = batch.rows, lossRows = batch.lossRows.count
    let taps = try (0..<rungs).map { _ in try pool.make(.bfloat16, [backbone.width, rows]) }
    let final = try pool.make(.float32, [backbone.width, lossRows])
    let geometry = network.geometry, width = geometry.width
    let type = network.configuration.precision.elementType
    let keepsProducts = network.configuration.productBytes(geometry, rows: rows) > 0
    let side = Side(
      states: try (0..<(geometry.layers - 1) / geometry.interval).map { _ in try pool.make(.float32, [width, rows]) },
      top: try pool.make(.float32, [width, lossRows]), gradientOfState: try pool.make(.float32, [width, rows]),
      kept: (0..<geometry.layers).map { _ in KeptResults(pool, type, keepsProducts: keepsProducts) },
      blocks: try AttentionBlocks(batch.spans, pool: pool))
    let made = Activations(batch: batch, taps: taps, final: final, side: side)
    activations = made
    return made
  }

  /// The backbone's rows, before `forward` corrects them: [d, rows].
  package var finalRows: Tensor {
    guard let activations else { preconditionFailure("read() comes first") }
    return activations.final
  }

  /// - Parameter dropout: the stream that drops tap channels while training; nil drops none.
  /// - Returns: n + Δ at the loss rows, [d, rows]; valid until the next `read`.
  package func forward(dropout: SeededRandom? = nil) throws -> Tensor {
    guard let activations else { preconditionFailure("read() comes first") }
    let side = activations.side
    let trains = dropout != nil
    if self.trains != trains { graphs.forget() }
    self.trains = trains
    graphs.rewind()
    try standardise(activations.taps, dropout)
    side.kept.forEach { $0.record() }
    for run in runs {
      // A graph of its own for each run: its size does not grow with the depth.
      try graphs.run(nodes: nodes(run, side)) { graph in
        if run.lowerBound == 0 { network.parameters.round(graph) }
        var state = run.lowerBound > 0 ? side.states[run.lowerBound / network.geometry.interval - 1] : nil
        for index in run {
          // Attention is the dearest part of a layer; only training comes back for it.
          let tape = network.tape(graph, trains ? side.kept[index] : nil)
          state = layer(index, tape, previous: state, activations)
          try side.kept[index].check()
        }
        guard let output = state else { return }
        if run.upperBound < network.geometry.layers {
          graph.store(output, in: side.states[run.upperBound / network.geometry.interval - 1])
        } else {
          let tape = network.tape(graph)
          let last = graph.store(tape.rows(output, activations.batch.lossRows), in: side.top)
          graph.store(graph.add(activations.final, network.correction(tape, last)), in: activations.final)
        }
      }
    }
    return activations.final
  }

  /// The parameters whose gradients `backward` has done with at a time, in its order.
  package var gradientParts: [[String]] {
    runs.reversed().map { run in
      (run.upperBound == network.geometry.layers ? network.outputNames : []) + run.flatMap(network.layerNames)
    }
  }

  /// Adds every parameter's gradient to its buffer. Shapes: gradient [d, rows], with respect to what `forward`
  /// returned.
  /// - Parameter finished: called after each of `gradientParts`.
  package func backward(_ gradient: Tensor, finished: (Int) throws -> Void = { _ in }) throws {
    guard let activations, let trains else { preconditionFailure("forward() comes first") }
    let side = activations.side
    let interval = network.geometry.interval
    side.kept.forEach { $0.replay() }
    func tape(_ graph: Graph, _ index: Int, outputIsRead: Bool) -> Tape {
      network.tape(graph, trains ? side.kept[index] : nil, outputIsRead: outputIsRead)
    }
    for (part, run) in runs.reversed().enumerated() {
      let isLast = run.upperBound == network.geometry.layers
      try graphs.run(nodes: nodes(run, side), inputs: isLast ? [gradient] : []) { graph in
        // With respect to the output of the layer at hand; of the last layer, once its output exists.
        var gradientOfOutput: Tensor? = side.gradientOfState
        var gradientOfTop: Tensor?
        if isLast {
          let correction = network.tape(graph)
          correction.watch(side.top)
          network.outputNames.forEach { correction.watch(network.parameters[$0]) }
          correction.backward(from: network.correction(correction, side.top), gradient: gradient)
          network.parameters.accumulateGradients(network.outputNames, from: correction)
          gradientOfOutput = nil
          gradientOfTop = correction.gradient(of: side.top)
        }
        // The inputs of this run's layers: the first is kept, the others are computed again.
        var inputs = [run.lowerBound > 0 ? side.states[run.lowerBound / interval - 1] : nil]
        for index in run.dropLast() {
          inputs.append(
            layer(index, tape(graph, index, outputIsRead: true), previous: inputs[index - run.lowerBound], activations))
        }
        for (index, previous) in zip(run, inputs).reversed() {
          let tape = tape(graph, index, outputIsRead: false)
          let names = network.layerNames(index)
          names.forEach { tape.watch(network.parameters[$0]) }
          if let previous { tape.watch(previous) }
          let output = layer(index, tape, previous: previous, activations)
          let scattered = { graph.scattered($0, activations.batch.lossRows, like: output) }
          guard let gradient = gradientOfOutput ?? gradientOfTop.map(scattered) else { return }
          tape.backward(from: output, gradient: gradient)
          network.parameters.accumulateGradients(names, from: tape)
          gradientOfOutput = previous.flatMap(tape.gradient)
        }
        if run.lowerBound > 0, let next = gradientOfOutput { graph.store(next, in: side.gradientOfState) }
      }
      try finished(part)
    }
  }

  /// The layers that lie between two kept states.
  private var runs: [Range<Int>] {
    let layers = network.geometry.layers, interval = network.geometry.interval
    return stride(from: 0, to: layers, by: interval).map { $0..<min($0 + interval, layers) }
  }

  /// At least as many nodes as a run's graph has, forward or backward.
  private func nodes(_ run: Range<Int>, _ side: Side) -> Int {
    256 + run.count * (512 + 56 * side.blocks.count + 32 * network.geometry.rungs.count)
  }

  private func layer(_ index: Int, _ tape: Tape, previous: Tensor?, _ activations: Activations) -> Tensor {
    let scale = 1 / Float(network.geometry.headSize).squareRoot()
    return network.layer(
      tape, index, previous: previous, taps: activations.taps, positions: activations.batch.positions
    ) { q, k, v in
      tape.attention(q, k, v, activations.side.blocks, scale: scale)
    }
  }

  /// Replaces each tap by z(rms(tap)), some rows at a time, so that its copies in F32 stay small and one mask serves
  /// all.
  private func standardise(_ taps: [Tensor], _ dropout: SeededRandom?) throws {
    var random = dropout
    let rate = network.configuration.tapDropout
    guard let first = taps.first else { return }
    // Some 2 MB a copy: what one operation wrote is still in the processor's cache when the next reads it.
    let piece = max(32, (2 << 20) / (4 * first[0]) / 32 * 32)
    if random != nil, rate > 0, activations?.side.mask == nil {
      activations?.side.mask = try pool.make(.float32, [first[0], min(piece, first[1])])
    }
    let mask = random != nil ? activations?.side.mask : nil
    for (rung, tap) in taps.enumerated() {
      for start in stride(from: 0, to: tap[1], by: piece) {
        let rows = start..<min(start + piece, tap[1])
        if let mask { try random?.fillDropoutMask(mask, rate: rate, on: tasks) }
        try graphs.run(nodes: 32, inputs: network.statisticsTensors(rung: rung)) { graph in
          let part = graph.slice(tap, 1, rows)
          let factors = mask.map { rows.count == $0[1] ? $0 : graph.slice($0, 1, 0..<rows.count) }
          graph.store(network.standardised(graph, part, rung: rung, mask: factors), in: part)
        }
      }
    }
  }
}
