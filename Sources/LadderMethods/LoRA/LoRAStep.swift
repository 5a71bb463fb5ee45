import LadderBackbone
import LadderCompute
import LadderCore
import LadderData

/// One micro-batch through the model with its low-rank additions: forward over packed samples, and backward block by
/// block. It begins with the embedding, or with what the block below the first addition hands on.
///
/// Forward keeps each block's input, and without checkpointing what its backward pass needs of its products; norms,
/// non-linearities and attention's probabilities are computed again.
package final class LoRAStep {
  private let model: LoRAModel
  private let pool: TensorPool
  private let masks: TensorPool
  private let tasks: HostTasks
  private let graph: Graph

  // The micro-batch at hand.
  private var states: [Tensor] = []  // the input [d, n] of each block from `model.blocks.lowerBound` on
  private var last: Tensor?  // the last block's output at the loss rows [d, rows]
  private var final: Tensor?  // after the final norm [d, rows]
  private var gradientOfState: Tensor?  // [d, n]
  private var results: [KeptResults] = []
  private var places: LoRAModel.Places?
  private var lossRows: Tensor?

  package init(_ model: LoRAModel) throws {
    self.model = model
    // Results of each block, and masks of each 128 rows of attention.
    pool = TensorPool(model.engine, tensors: 8192 + 24 * model.blocks.count)
    masks = TensorPool(model.engine, tensors: 64)
    tasks = try HostTasks(model.engine)
    graph = try Graph(model.engine, nodes: 1 << 16)
  }

  /// Bytes held for activations and graphs.
  package var bytes: Int { pool.capacity + masks.capacity + graph.workspace }

  /// Takes samples in.
  /// - Parameter source: of the tap below the first addition; nil where every block is run here.
  package func read(_ samples: [PackedSample], from source: (any TapSource)? = nil) throws {
    try pool.reset()
    let shape = model.shape
    let batch = try MicroBatch(samples, pool: pool)
    lossRows = batch.lossRows
    let needsWindow = shape.window.map { window in samples.contains { $0.tokens.count > window } } ?? false
    places = LoRAModel.Places(
      positions: batch.positions, whole: try AttentionBlocks(batch.spans, pool: pool),
      windowed: needsWindow ? try AttentionBlocks(batch.spans, window: shape.window, pool: pool) : nil)
    states = try model.blocks.map { _ in try pool.make(.float32, [shape.width, batch.rows]) }
    gradientOfState = try pool.make(.float32, [shape.width, batch.rows])
    last = try pool.make(.float32, [shape.width, batch.lossRows.count])
    final = try pool.make(.float32, [shape.width, batch.lossRows.count])
    try begin(samples, batch, from: source)
  }

  /// The first block's input.
  private func begin(_ samples: [PackedSample], _ batch: MicroBatch, from source: (any TapSource)?) throws {
    graph.reset()
    guard let source else {
      precondition(model.blocks.lowerBound == 0, "what lies below the additions has to come from somewhere")
      let tokens = try pool.make(samples.flatMap(\.tokens) + [Int32](repeating: 0, count: batch.rows - batch.tokens))
      graph.store(try model.embeddings(graph, tokens), in: states[0])
      return try graph.compute()
    }
    let isRounded = source.roundsTaps
    let tap = isRounded ? try pool.make(.bfloat16, states[0].shape.dropLast(2)) : states[0]
    try source.run(samples, taps: [tap], final: nil)
    tap.zero(from: batch.tokens * tap.stride(1))
    guard isRounded else { return }
    graph.store(graph.cast(tap, .float32), in: states[0])
    try graph.compute()
  }

  /// - Parameters:
  ///   - dropout: the stream that drops channels of the additions' inputs; nil drops none.
  ///   - keeps: keep what `backward` needs.
  ///   - adds: false leaves the additions out: the model as it is.
  /// - Returns: the final norm's output at the loss rows, [d, rows]; valid until the next `read`.
  package func forward(dropout: SeededRandom? = nil, keeps: Bool = true, adds: Bool = true) throws -> Tensor {
    guard let lossRows, let last, let final, let gradientOfState else {
      preconditionFailure("read() comes first")
    }
    try drawMasks(dropout)
    guard var places else { preconditionFailure("read() comes first") }
    places.adds = adds
    results = []
    let type: ElementType = model.configuration.rounds ? .bfloat16 : .float32
    let blocks = model.blocks
    var state = states[0]
    for index in blocks {
      let place = index - blocks.lowerBound, isTop = index == blocks.upperBound - 1
      try Cancellation.check()
      let kept = keeps && !model.configuration.checkpointing ? KeptResults(pool, type) : nil
      graph.reset()
      let output = model.block(
        model.tape(graph, kept), index, state, places, rows: isTop ? lossRows : nil)
      // Without a backward pass to come two states are enough, beside the first, which another pass may begin with.
      let target = isTop ? last : keeps ? states[place + 1] : place % 2 == 0 ? gradientOfState : states[1]
      graph.store(output, in: target)
      try kept?.check()
      try graph.compute()
      kept?.replay()
      if let kept { results.append(kept) }
      state = target
    }
    graph.reset()
    graph.store(try model.finalNorm(Tape(graph), last), in: final)
    try graph.compute()
    return final
  }

  /// The parameters whose gradients `backward` has done with at a time, in its order.
  package var gradientParts: [[String]] { model.blocks.reversed().map(model.names) }

  /// Adds every parameter's gradient to its buffer. Shapes: gradient [d, rows], with respect to what `forward`
  /// returned.
  /// - Parameter finished: called after each of `gradientParts`.
  package func backward(_ gradient: Tensor, finished: (Int) throws -> Void = { _ in }) throws {
    guard let places, let lossRows, let last, let gradientOfState else { preconditionFailure("forward() comes first") }
    graph.reset()
    let top = Tape(graph)
    top.watch(last)
    top.backward(from: try model.finalNorm(top, last), gradient: gradient)
    guard let start = top.gradient(of: last) else { return }
    graph.store(start, in: last)
    try graph.compute()

    let blocks = model.blocks
    var upstream = last
    for (part, index) in blocks.reversed().enumerated() {
      let place = index - blocks.lowerBound, state = states[place]
      try Cancellation.check()
      graph.reset()
      let tape = model.tape(graph, results.isEmpty ? nil : results[place], outputIsRead: false)
      let names = model.names(ofBlock: index)
      names.forEach { tape.watch(model.parameters[$0]) }
      if place > 0 { tape.watch(state) }
      tape.backward(
        from: model.block(tape, index, state, places, rows: index == blocks.upperBound - 1 ? lossRows : nil),
        gradient: upstream)
      model.parameters.accumulateGradients(names, from: tape)
      if let next = tape.gradient(of: state) { graph.store(next, in: gradientOfState) }
      try graph.compute()
      try finished(part)
      upstream = gradientOfState
    }
  }

  private func drawMasks(_ dropout: SeededRandom?) throws {
    places?.masks = [:]
    guard var random = dropout, model.configuration.dropout > 0, let rows = states.first.map({ $0[1] }) else { return }
    try masks.reset()
    // One mask for each input width serves every block of the micro-batch.
    for width in Set(model.shape.matrices(of: model.configuration.targets).map(\.columns)).sorted() {
      let mask = try masks.make(.float32, [width, rows])
      try random.fillDropoutMask(mask, rate: model.configuration.dropout, on: tasks)
      places?.masks[width] = mask
    }
  }
}
