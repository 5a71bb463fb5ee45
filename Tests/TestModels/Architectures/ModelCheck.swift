import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
import LadderTrain

/// What a tiny model has to do to count as one that works.
package struct ModelCheck {
  package enum Stage: String, CaseIterable, Sendable {
    /// llama.cpp makes a model of the header, and it is written.
    case make
    case load
    /// The start of a side network is llama.cpp's own logits.
    case parity
    /// Several texts in one call, and a beginning that two share, give what each gives alone.
    case sharing
    /// Training lowers the loss.
    case training
    /// What is decoded step by step is what whole texts give.
    case decoding
    /// A low-rank adapter starts with llama.cpp's own logits.
    case adapterParity
    case adapterTraining
    /// llama.cpp, given the written adapter, gives what was trained.
    case adapterServing

    package var isOfAdapter: Bool { rawValue.hasPrefix("adapter") }
  }

  private let path: String
  private let folder: String

  /// - Parameter folder: for the files of a run.
  package init(_ path: String, folder: String) {
    self.path = path
    self.folder = folder
  }

  /// Goes through the stages after `make`; where one fails, those that build on it are left out.
  package func run(begins: (Stage) -> Void, ends: (Stage, LadderError?) -> Void) {
    func passes(_ stage: Stage, _ work: () throws -> Void) -> Bool {
      begins(stage)
      do {
        try work()
        ends(stage, nil)
        return true
      } catch {
        ends(stage, LadderError(any: error))
        return false
      }
    }
    var loaded: Backbone?
    guard passes(.load, { loaded = try Backbone(path: path, threads: 2, device: testDevice) }), let backbone = loaded
    else {
      return
    }
    var side: TrainingSession?
    let starts = passes(.parity) { side = try sideAtItsStart(backbone) }
    if starts, let side {
      _ = passes(.sharing) { try share(backbone) }
      if passes(.training, { try train(side) }) { _ = passes(.decoding) { try decode(side) } }
    }
    side = nil
    var adapter: TrainingSession?
    if passes(.adapterParity, { adapter = try adapterAtItsStart(backbone) }), let adapter,
      passes(.adapterTraining, { try train(adapter) })
    {
      _ = passes(.adapterServing) { try serve(adapter) }
    }
  }

  // MARK: - Samples

  private static func text(_ count: Int, _ seed: Int) -> [Int32] {
    var random = SeededRandom(seed: 5, seed)
    return (0..<count).map { _ in Int32(random.next() % 250) + 3 }
  }

  /// Loss in the second half of each.
  private static let samples = [40, 21, 6].enumerated().compactMap { seed, length in
    EncodedSample(sequence: text(length, seed), learned: (0..<length).map { $0 >= length / 2 })
  }

  private func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw LadderError(.data, message()) }
  }

  /// ln p of each row's target. Shapes: rows [d, n].
  private func logProbabilities(_ backbone: Backbone, _ rows: Tensor, _ targets: [Int32]) throws -> [Double] {
    let graph = try Graph(backbone.engine, nodes: 64), logits = graph.keep(backbone.head.logits(graph, rows))
    try graph.compute()
    let values = logits.read(), count = backbone.vocabulary
    return targets.enumerated().map { row, target in
      let own = values[(row * count)..<((row + 1) * count)], most = Double(own.max() ?? 0)
      return Double(own[own.startIndex + Int(target)]) - most - log(own.reduce(0.0) { $0 + exp(Double($1) - most) })
    }
  }

  /// The largest difference; infinite where one of them is no number.
  private func distance(_ first: [Double], _ second: [Double]) -> Double {
    zip(first, second).reduce(first.count == second.count ? 0 : .infinity) { most, pair in
      let difference = abs(pair.0 - pair.1)
      return difference.isFinite ? max(most, difference) : .infinity
    }
  }

  /// The root of the mean square of the differences.
  private func spread(_ first: [Double], _ second: [Double]) -> Double {
    let squares = zip(first, second).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    return (squares / Double(max(1, first.count))).squareRoot()
  }

  private func compareWithEngine(_ session: TrainingSession, exactAttention: Bool, limit: Double) throws {
    let backbone = session.backbone
    let oracle = try exactAttention ? backbone.withExactAttention() : backbone
    let reference = try ReferenceLogits(oracle, maxTokens: 64, exactAttention: exactAttention)
    for sample in Self.samples {
      try session.learner.read([sample.packed])
      let own = try logProbabilities(backbone, try session.learner.forward(dropout: nil), sample.targets)
      let expected = try reference.logProbabilities(sample.tokens, rows: sample.lossRows, targets: sample.targets)
      let distance = distance(own, expected)
      try require(distance < limit, "ln p is off llama.cpp's by \(distance)")
    }
  }

  /// What is said of a method before the model is loaded is so.
  private func check(_ method: TuningMethod, of backbone: Backbone) throws {
    let dimensions = try ModelDimensions(backbone.file)
    try require(dimensions.outline == backbone.outline, "the header's blocks and width are not the model's")
    let load = TrainingLoad(length: 64, tokens: 64, lossRows: 8)
    try require(try method.tuning.memory(dimensions, load).total > 0, "no memory is planned")
    try require(!(try method.tuning.parameters(on: backbone.file).isEmpty), "nothing is trained")
  }

  // MARK: - Side networks

  private func sideAtItsStart(_ backbone: Backbone) throws -> TrainingSession {
    var settings = TrainingConfiguration()
    var side = SideConfiguration()
    side.rungs = .all
    side.reduction = 2
    side.headSize = 16
    side.tapDropout = 0
    settings.method = .ladder(side)
    try check(settings.method, of: backbone)
    let session = try TrainingSession(backbone, settings, maxTokens: 96)
    try session.initialise(Self.samples)
    // Weights in F32: what differs is the order of sums.
    try compareWithEngine(session, exactAttention: false, limit: tolerance(1e-3, cuda: 0.1))
    return session
  }

  /// With keys, values and attention in F32: in F16 their last bits differ with what a call holds.
  private func share(_ backbone: Backbone) throws {
    let forward = try ForwardPass(backbone, rungs: [1], maxTokens: 96, exactAttention: true)
    let pool = TensorPool(backbone.engine)
    func logs(_ samples: [PackedSample], _ targets: [Int32]) throws -> [Double] {
      let tap = try pool.make(.bfloat16, [backbone.width, samples.reduce(0) { $0 + $1.tokens.count }])
      let rows = try pool.make(.float32, [backbone.width, targets.count])
      try forward.run(samples, taps: [tap], final: rows)
      return try logProbabilities(backbone, rows, targets)
    }
    let alone = try Self.samples.flatMap { try logs([$0.packed], $0.targets) }
    let together = try logs(Self.samples.map(\.packed), Self.samples.flatMap(\.targets))
    try require(
      distance(alone, together) < tolerance(5e-3, cuda: 0.1), "texts in one call differ by \(distance(alone, together))"
    )
    if !backbone.sharesBeginnings { return }
    let prompt = Self.text(24, 7)
    let pair = [Self.text(5, 8), Self.text(9, 9)].compactMap { answer in
      EncodedSample(sequence: prompt + answer, learned: (0..<(24 + answer.count)).map { $0 >= 24 })
    }
    let apart = try pair.flatMap { try logs([$0.packed], $0.targets) }
    let joined = try logs(TrainingExample(pair, shares: true).packed, pair.flatMap(\.targets))
    try require(
      distance(apart, joined) < tolerance(5e-3, cuda: 0.1),
      "two texts that share a beginning differ by \(distance(apart, joined))")
  }

  private func train(_ session: TrainingSession) throws {
    var losses: [Float] = []
    for step in 0..<8 {
      let result = try session.take(
        Self.samples, number: step, learningRate: min(0.01, 1 / Float(session.backbone.width)))
      try require(result.gradientNorm.isFinite && result.gradientNorm > 0, "the gradient is \(result.gradientNorm)")
      losses.append(result.loss)
    }
    try require(losses[7] < losses[0], "the loss went from \(losses[0]) to \(losses[7])")
  }

  private func decode(_ session: TrainingSession) throws {
    let backbone = session.backbone
    guard let predictor = session.learner.predictor else { throw LadderError(.engine, "nothing predicts") }
    let decoder = try predictor.decoder(maxTokens: 64, slots: 1)
    let graph = try Graph(backbone.engine, nodes: 64)
    let prompt = Self.text(10, 3)
    var tokens = prompt, stepwise: [Double] = []
    for step in 0..<12 {
      let row = try decoder.extend(step == 0 ? prompt : [tokens[tokens.count - 1]])
      graph.reset()
      let logits = graph.keep(backbone.head.logits(graph, row))
      try graph.compute()
      let values = logits.read()
      let next = Int32(values.indices.max { values[$0] < values[$1] } ?? 0)
      stepwise += try logProbabilities(backbone, row, [next])
      tokens.append(next)
    }
    let rows = Array((prompt.count - 1)..<(tokens.count - 1))
    let sample = PackedSample(tokens: Array(tokens.dropLast()), lossRows: rows)
    let reader = try predictor.reader(maxTokens: 64, cache: nil)
    let forced = try withExtendedLifetime(reader) {
      try logProbabilities(backbone, reader.rows([sample]), Array(tokens[prompt.count...]))
    }
    try require(
      spread(stepwise, forced) < tolerance(0.02, cuda: 0.1),
      "decoding differs from the whole text by \(spread(stepwise, forced))")
  }

  // MARK: - Adapters

  private func adapterAtItsStart(_ backbone: Backbone) throws -> TrainingSession {
    var settings = TrainingConfiguration()
    var adapter = LoRAConfiguration()
    adapter.rank = 4
    adapter.rounds = false
    settings.method = .lora(adapter)
    try check(settings.method, of: backbone)
    let session = try TrainingSession(backbone, settings, maxTokens: 96)
    try session.initialise(Self.samples)
    // GELU is a table over F16.
    let limit = tolerance(backbone.file.architecture.hasPrefix("gemma") ? 5e-3 : 1e-3, cuda: 0.05)
    try compareWithEngine(session, exactAttention: true, limit: limit)
    return session
  }

  private func serve(_ session: TrainingSession) throws {
    let backbone = session.backbone
    try session.learner.writeExtras(to: folder)
    let adapter = try EngineAdapter(path: "\(folder)/\(AdapterFiles.gguf)", backbone)
    let forward = try ForwardPass(backbone, rungs: [], maxTokens: 64, exactAttention: true, adapter: adapter)
    let pool = TensorPool(backbone.engine)
    for sample in Self.samples {
      try session.learner.read([sample.packed])
      let own = try logProbabilities(backbone, try session.learner.forward(dropout: nil), sample.targets)
      let rows = try pool.make(.float32, [backbone.width, sample.lossRows.count])
      try forward.run([sample.packed], taps: [], final: rows)
      let theirs = try logProbabilities(backbone, rows, sample.targets)
      try require(distance(own, theirs) < 0.02, "llama.cpp's ln p with the adapter differs by \(distance(own, theirs))")
    }
  }
}
