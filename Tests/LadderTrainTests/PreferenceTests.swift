import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
import TestModels
import Testing

@testable import LadderTrain

@Suite(.serialized) struct PreferenceTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private static let pairs = (0..<24).map { i in
    Sample(
      .preference(
        chosen: .completion(prompt: "question \(i):", completion: " yes, \(i)"),
        rejected: .completion(prompt: "question \(i):", completion: " no, not \(i + 1)")))
  }

  private func configuration(_ method: TuningMethod, _ loss: PreferenceSettings.Loss) -> TrainingConfiguration {
    var c = TrainingConfiguration()
    c.method = method
    c.objective = .preference
    c.preference = PreferenceSettings()
    c.preference?.loss = loss
    c.batchSize = 4
    c.steps = 12
    c.learningRate = 3e-3
    c.maxLength = 64
    return c
  }

  private static var methods: [TuningMethod] {
    var side = SideConfiguration(), lora = LoRAConfiguration()
    side.rungs = .list([1, 3])
    side.reduction = 2
    side.headSize = 16
    side.tapDropout = 0
    lora.rank = 4
    return [.ladder(side), .lora(lora)]
  }

  /// The derivatives by both log-likelihoods against finite differences.
  @Test(arguments: PreferenceSettings.Loss.allCases) func derivatives(_ loss: PreferenceSettings.Loss) {
    var settings = PreferenceSettings(), random = SeededRandom(seed: 4)
    settings.loss = loss
    settings.labelSmoothing = 0.1
    for _ in 0..<50 {
      settings.beta = Double(0.05 + random.uniform())
      func likelihood(_ tokens: Int) -> Double { -Double(tokens) * Double(0.05 + 2 * random.uniform()) }
      let pair = PreferencePair(
        chosen: likelihood(12), rejected: likelihood(7), chosenReference: likelihood(12),
        rejectedReference: likelihood(7), chosenTokens: 12,
        rejectedTokens: 7)
      let found = pair.evaluate(settings), h = 1e-5
      func value(_ chosen: Double, _ rejected: Double) -> Double {
        var moved = pair
        moved.chosen += chosen
        moved.rejected += rejected
        return moved.evaluate(settings).loss
      }
      let byChosen = (value(h, 0) - value(-h, 0)) / (2 * h), byRejected = (value(0, h) - value(0, -h)) / (2 * h)
      #expect(abs(byChosen - found.byChosen) < 1e-6 * max(1, abs(byChosen)), "\(pair)")
      #expect(abs(byRejected - found.byRejected) < 1e-6 * max(1, abs(byRejected)), "\(pair)")
    }
  }

  /// The gradient with respect to the head's input, through whole pairs, against differences of the loss.
  @Test(arguments: PreferenceSettings.Loss.allCases) func gradientOfTheRows(_ loss: PreferenceSettings.Loss) throws {
    let backbone = try Backbone(path: try folder.model { $0.type = GGML_TYPE_F32 }, threads: 2, device: testDevice)
    var c = configuration(Self.methods[0], loss)
    c.filtersGradient = false
    let session = try TrainingSession(backbone, c, maxTokens: 64), objective = try c.objective(backbone)
    let examples = Array(
      try SampleEncoder(backbone, maxLength: 64, objective: .preference).examples(Self.pairs, name: "pairs").examples
        .prefix(3))
    let samples = examples.flatMap(\.sequences)
    try session.initialise(samples)
    try session.learner.read(samples.map(\.packed))
    try objective.prepare(examples, session.learner)
    let rows = try session.learner.forward(dropout: nil), pool = TensorPool(backbone.engine)
    // Away from the model alone.
    var random = SeededRandom(seed: 6)
    rows.write(rows.read().map { $0 + 0.3 * random.normal() })
    let gradient = try pool.make(.float32, [backbone.width, rows[1]])
    let whole = try objective.evaluate(rows, examples, gradient: gradient, scale: 0.5, seed: 0)
    #expect(abs(whole - (try objective.evaluate(rows, examples, gradient: nil, scale: 1, seed: 0))) < 1e-5 * abs(whole))
    let analytic = gradient.read(), largest = analytic.map(abs).max() ?? 0
    #expect(largest > 0)
    for i in analytic.indices.sorted(by: { abs(analytic[$0]) > abs(analytic[$1]) }).prefix(6) {
      let numeric = try rows.centralDifference(i, h: 0.02) {
        try objective.evaluate(rows, examples, gradient: nil, scale: 1, seed: 0)
      }
      #expect(abs(0.5 * numeric - analytic[i]) < 0.02 * largest, "\(loss): \(analytic[i]) against \(0.5 * numeric)")
    }
  }

  /// The first step's pairs are where the model alone has them, whose loss is ln 2; then the chosen answers gain.
  @Test(arguments: [0, 1]) func pairsAreLearned(_ method: Int) throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: testDevice)
    let run = RunDirectory(folder.file("run-\(method)"))
    try Trainer(backbone, configuration(Self.methods[method], .sigmoid)).train(
      Self.pairs, validation: Array(Self.pairs.suffix(8)), into: run)
    let steps = try run.metrics()
    #expect(abs((steps.first?.loss ?? 0) - logf(2)) < 2e-3, "\(steps.map(\.loss))")
    #expect((steps.last?.loss ?? 1) < 0.9 * logf(2), "\(steps.map(\.loss))")
    #expect((try run.manifest().validationLoss ?? 1) < 0.9 * logf(2))
  }

  /// Two answers of one token each have the same tokens, and differ in their last target alone.
  @Test func answersOfOneToken() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: testDevice)
    let sequences = [[5, 6, 7], [5, 6, 8]].compactMap {
      EncodedSample(sequence: $0.map { Int32($0) }, learned: [false, false, true])
    }
    let objective = try configuration(Self.methods[0], .sigmoid).objective(backbone)
    let session = try TrainingSession(backbone, configuration(Self.methods[0], .sigmoid), maxTokens: 64)
    try session.initialise(sequences)
    try session.learner.read(sequences.map(\.packed))
    try objective.prepare([TrainingExample(sequences)], session.learner)
    let loss = try objective.evaluate(
      try session.learner.forward(dropout: nil), [TrainingExample(sequences)], gradient: nil, scale: 1, seed: 0)
    #expect(abs(loss - log(2)) < 1e-5)
  }

  @Test func whatIsNoPairIsRefused() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: testDevice)
    func error(_ c: TrainingConfiguration, _ samples: [Sample]) -> LadderError? {
      #expect(throws: LadderError.self) {
        try Trainer(backbone, c).train(samples, into: RunDirectory(folder.file("refused")))
      }
    }
    #expect(error(configuration(Self.methods[0], .sigmoid), [Sample(prompt: "a", completion: "b")])?.kind == .data)
    #expect(error(TrainingConfiguration(), Self.pairs)?.kind == .data)
    var c = configuration(Self.methods[0], .sigmoid)
    c.preference?.beta = 0
    #expect(error(c, Self.pairs)?.kind == .usage)
  }
}
