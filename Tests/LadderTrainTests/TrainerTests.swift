import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
@testable import LadderTrain
import TestModels
import Testing

@Suite(.serialized) struct TrainerTests {
  let folder: TemporaryFolder
  let backbone: Backbone
  init() throws {
    folder = try TemporaryFolder()
    backbone = try Backbone(path: try folder.model(), threads: 2, device: testDevice)
  }

  /// A run's folder may be one that holds other things: only what is a run's is removed.
  @Test func onlyWhatIsARunsIsSwept() throws {
    let run = RunDirectory(folder.file("mine")), own = ["notes.tmp", "files.new/mine.txt", "checkpoints/step-2.tmp/x"]
    for name in own { try Self.write(name, in: run) }
    try run.sweep()
    for name in own { #expect(FileManager.default.fileExists(atPath: "\(run.path)/\(name)"), "\(name)") }
    try Self.write("ladder.json", in: run)
    try Self.write("checkpoints/step-3.tmp/state.json", in: run)
    try run.sweep()
    let left = Set(FileManager.default.subpaths(atPath: run.path) ?? [])
    #expect(left.isSuperset(of: ["notes.tmp", "checkpoints/step-3.tmp/state.json", "mine.txt"]))
    #expect(!left.contains("checkpoints/step-2.tmp"))
  }

  private static func write(_ name: String, in run: RunDirectory) throws {
    let path = "\(run.path)/\(name)"
    try DurableFile.makeFolder((path as NSString).deletingLastPathComponent)
    try DurableFile.write(path, [Data("x".utf8)])
  }

  /// A full disk cuts a line short, and a reader may come while one is being written.
  @Test func onlyWholeLinesOfMetricsAreRead() throws {
    let run = RunDirectory(folder.file("cut"))
    let step = TrainingStep(
      step: 1, totalSteps: 3, epoch: 0.5, loss: 1, learningRate: 1, tokens: 9, tokensPerSecond: 9, peakBytes: 9,
      gradientNorm: 1, secondsLeft: 1)
    let line = try JSONEncoder().encode(step) + Data("\n".utf8)
    try DurableFile.makeFolder(run.path)
    try DurableFile.write(run.metricsPath, [line, line, line.prefix(20)])
    #expect(try run.metrics().count == 2)
    try DurableFile.write(run.metricsPath, [line, Data("{}\n".utf8)])
    let error = #expect(throws: LadderError.self) { try run.metrics() }
    #expect(error?.kind == .data && error?.message.contains("metrics.jsonl:2") == true)
  }

  /// A process that is killed while it validates has written the last line anew, and its checkpoint knows the old one.
  @Test func aLineThatGrewIsKept() throws {
    func line(_ step: Int) -> TrainingStep {
      TrainingStep(
        step: step, totalSteps: 3, epoch: 0.5, loss: 1, learningRate: 1, tokens: 9, tokensPerSecond: 9, peakBytes: 9,
        gradientNorm: 1, secondsLeft: 1)
    }
    func amend(_ file: MetricsFile, _ step: Int, _ seconds: Double) throws {
      try file.amendLast(step: step) {
        $0.validationLoss = 0.5
        $0.validationSeconds = seconds
      }
    }
    let path = folder.file("metrics.jsonl"), file = try MetricsFile(path, keeping: 0)
    try file.append(line(1))
    try file.append(line(2))
    let kept = file.bytes
    try amend(file, 2, 0.123456789)
    try file.append(line(3))
    let again = try MetricsFile(path, keeping: kept)
    try amend(again, 3, 7)  // the last is step 2's
    try amend(again, 2, 0.5)
    try again.append(line(3))
    let steps = try Data(contentsOf: URL(fileURLWithPath: path)).split(separator: UInt8(ascii: "\n")).map {
      try JSONDecoder().decode(TrainingStep.self, from: Data($0))
    }
    #expect(steps.map(\.step) == [1, 2, 3] && steps.map(\.validationSeconds) == [nil, 0.5, nil])
    // A line that a full disk cut short is taken again.
    let whole = again.bytes
    try again.append(line(3))
    #expect(try MetricsFile(path, keeping: whole - 4).bytes == whole)
    #expect(try MetricsFile(path, keeping: kept - 4).bytes > kept)
  }

  @Test func wholeEpochsAreWholeSteps() {
    var c = TrainingConfiguration()
    c.batchSize = 1
    for (epochs, steps) in [(0.55, 55), (0.07, 7), (1, 100), (0.001, 1), (0.551, 56)] {
      c.epochs = epochs
      #expect(c.totalSteps(examples: 100) == steps, "\(epochs)")
    }
  }

  static let samples = (0..<48).map { i in
    Sample(
      prompt: "question \(i % 7) of kind \(i % 2 == 0 ? "even" : "odd"):",
      completion: i % 2 == 0 ? " yes" : " no, never")
  }

  private var configuration: TrainingConfiguration { Self.configuration }

  static var configuration: TrainingConfiguration {
    var c = TrainingConfiguration()
    c.side.rungs = .list([1, 3])
    c.side.reduction = 2
    c.side.headSize = 16
    c.batchSize = 8
    c.epochs = 2
    c.learningRate = 3e-3
    c.checkpointEvery = 3
    return c
  }

  private func weights(_ run: RunDirectory) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: run.weightsPath))
  }

  @Test func trainingLowersTheLoss() throws {
    var losses: [Float] = []
    var c = configuration
    c.epochs = 5
    try Trainer(backbone, c).train(Self.samples, into: RunDirectory(folder.file("run"))) {
      if case .step(let s) = $0 { losses.append(s.loss) }
    }
    #expect(losses.count == 30)
    let first = losses.prefix(5).reduce(Float(0), +), last = losses.suffix(5).reduce(Float(0), +)
    #expect(last < 0.7 * first)
  }

  @Test func eightBitOptimiserStateTrainsAndResumes() async throws {
    let whole = RunDirectory(folder.file("whole")), cut = RunDirectory(folder.file("cut"))
    var c = configuration
    c.eightBitOptimiser = true
    var losses: [Float] = []
    try Trainer(backbone, c).train(Self.samples, into: whole) { if case .step(let s) = $0 { losses.append(s.loss) } }
    var plain: [Float] = []
    try Trainer(backbone, configuration).train(Self.samples, into: RunDirectory(folder.file("plain"))) {
      if case .step(let s) = $0 { plain.append(s.loss) }
    }
    for (a, b) in zip(losses, plain) { #expect(abs(a - b) < 0.1 * b) }
    let task = Task.detached { [backbone, c] in
      try Trainer(backbone, c).train(Self.samples, into: cut) {
        if case .step(let s) = $0, s.step == 5 { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    await #expect(throws: LadderError.self) { try await task.value }
    try Trainer(backbone, c).train(Self.samples, into: cut, resume: true)
    #expect(try weights(cut) == weights(whole))
  }

  @Test func oneSeedGivesOneResult() throws {
    let runs = try (0..<3).map { i in
      let run = RunDirectory(folder.file("run\(i)"))
      var c = configuration
      c.seed = i == 2 ? 1 : 0
      try Trainer(backbone, c).train(Self.samples, into: run)
      return try weights(run)
    }
    #expect(runs[0] == runs[1])
    #expect(runs[0] != runs[2])
  }

  @Test func resumedRunEndsWithTheSameWeights() async throws {
    let whole = RunDirectory(folder.file("whole")), cut = RunDirectory(folder.file("cut"))
    try Trainer(backbone, configuration).train(Self.samples, into: whole)

    let trainer = Trainer(backbone, configuration)
    let task = Task.detached {
      try trainer.train(Self.samples, into: cut) { event in
        if case .step(let s) = event, s.step == 5 { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    await #expect(throws: LadderError.self) { try await task.value }
    #expect(try cut.manifest().finished == false)
    var resumedAt = 0
    try trainer.train(Self.samples, into: cut, resume: true) { if case .resumed(let step) = $0 { resumedAt = step } }
    #expect(resumedAt == 5)
    #expect(try weights(cut) == weights(whole))
    let lines = try String(contentsOfFile: cut.metricsPath, encoding: .utf8).split(separator: "\n")
    let steps = try lines.map { try JSONDecoder().decode(TrainingStep.self, from: Data($0.utf8)).step }
    #expect(steps == Array(1...12))
  }

  /// An exported folder, say: beginning anew would overwrite the only weights there are.
  @Test func aFinishedRunWithoutItsCheckpointsIsLeftAlone() throws {
    let run = RunDirectory(folder.file("exported"))
    var longer = configuration
    longer.steps = 2
    try Trainer(backbone, longer).train(Self.samples, into: run)
    try FileManager.default.removeItem(atPath: run.path + "/checkpoints")
    let before = try weights(run)
    longer.steps = 4
    #expect(throws: LadderError.self) { try Trainer(backbone, longer).train(Self.samples, into: run, resume: true) }
    #expect(try weights(run) == before && run.manifest().finished)
  }

  @Test func microBatchesChangeTheGradientByRoundingAlone() throws {
    let results = try [4096, 64].map { tokens in
      let run = RunDirectory(folder.file("run-\(tokens)"))
      var c = configuration
      c.microBatchTokens = tokens
      c.side.tapDropout = 0
      c.steps = 2
      try Trainer(backbone, c).train(Self.samples, into: run)
      return try Safetensors(path: run.weightsPath).tensors
    }
    // Two Adam steps of at most 3e-3 each; rounding can turn the sign of a vanishing gradient, not of many.
    var off = 0, count = 0
    for (name, entry) in results[0] {
      let other = try #require(results[1][name])
      off += try zip(entry.values(), other.values()).filter { abs($0 - $1) > 1e-3 }.count
      count += entry.count
    }
    #expect(off <= count / 20, "\(off) of \(count)")
  }

  /// BF16 keeps 8 bits of each factor of a product, sums stay in F32: over a run the losses agree within 2%, and within
  /// 1% on average.
  @Test func roundedProductsTrainAsFloat32Does() throws {
    let losses = try SideConfiguration.Precision.allCases.map { precision in
      var c = configuration, losses: [Float] = []
      c.side.precision = precision
      c.epochs = 4
      try Trainer(backbone, c).train(Self.samples, into: RunDirectory(folder.file(precision.rawValue))) {
        if case .step(let s) = $0 { losses.append(s.loss) }
      }
      return losses
    }
    #expect(losses[0] != losses[1], "the two must not be one path")
    for (a, b) in zip(losses[0], losses[1]) { #expect(abs(a - b) < 0.02 * a) }
    let means = losses.map { $0.reduce(0, +) / Float($0.count) }
    #expect(abs(means[0] - means[1]) < 0.01 * means[0])
  }

  /// Parameters and activations of an xLadder against the LST that it stands for, both within 2% or less, as the
  /// session counts the bytes that it took.
  @Test(arguments: [2, 3, 4], [Climb(cross: .reclimb), Climb(cross: .mixture), Climb(depth: 3)])
  func anXLadderTakesNoMoreThanOneClimb(_ times: Int, _ climb: Climb) throws {
    let backbone = try Backbone(
      path: try folder.model("wide.gguf") { model in
        model.width = 256
        model.feedForward = 256
        model.blocks = 8
      }, threads: 2, device: testDevice)
    let sample = try #require(
      EncodedSample(sequence: (0..<384).map { Int32($0 % 250) + 3 }, learned: [Bool](repeating: true, count: 384)))
    func measure(_ change: (inout SideConfiguration) -> Void) throws -> (parameters: Int, bytes: Int) {
      var c = TrainingConfiguration()
      c.side.rungs = .every(2)
      c.side.reduction = 1
      change(&c.side)
      let session = try TrainingSession(backbone, c, maxTokens: 512)
      try session.initialise([sample])
      for number in 0..<2 { _ = try session.take([sample], number: number, learningRate: 1e-4) }
      return (session.learner.parameters.count, session.workspaceBytes)
    }
    let one = try measure { _ in }
    let more = try measure { c in
      c.cross = climb.cross
      c.depth = climb.depth
      if climb.depth == nil { c.passes = times } else { c.free = 3 * (times - 1) }
    }
    #expect(abs(more.parameters - one.parameters) * 100 <= one.parameters)
    #expect(more.bytes * 100 <= one.bytes * 102, "\(more.bytes) against \(one.bytes)")
  }

  /// What an output bias starts from: each of three answers on the mean as likely as it is frequent, whatever the model
  /// leans to, and whatever the order of the samples: it is started by 128 of them.
  @Test(arguments: [false, true]) func anOutputBiasStartsWhereAnswersAreAsLikelyAsFrequent(_ isCapped: Bool) throws {
    let backbone = try Backbone(
      path: try folder.model("capped.gguf") { if isCapped { $0.architecture = .gemma2 } }, threads: 2,
      device: testDevice)
    #expect(backbone.head.capped == isCapped)
    var c = configuration
    c.side.outputBias = true
    let answers = [" yes", " no", " maybe"], frequencies = [60, 30, 10]
    let samples = (0..<300).map { i in
      Sample(
        prompt: "question \(i % 23):", completion: i < 180 ? answers[0] : i < 270 ? answers[1] : answers[2],
        choices: answers)
    }
    let encoder = SampleEncoder(backbone, maxLength: 64, objective: .choices),
      encoded = try encoder.encode(samples, name: "samples").samples
    func shares(_ change: (inout TrainingConfiguration) -> Void = { _ in }) throws -> (
      likelihoods: [Float], bias: [Float]
    ) {
      change(&c)
      let session = try TrainingSession(backbone, c, maxTokens: 64)
      try session.initialise(encoded)
      var sums = [Float](repeating: 0, count: 3), rows = 0
      for sample in encoded {
        try session.learner.read([sample.packed])
        for row in try AnswerPrior.rows(try session.learner.forward(dropout: nil), [sample], backbone)
        where row.rivals.count == 3 {
          let most = row.logits.max() ?? 0, weights = row.logits.map { exp($0 - most) }
          for i in 0..<3 { sums[i] += Float(weights[i] / weights.reduce(0, +)) }
          rows += 1
        }
      }
      try #require(rows > 0)
      return (sums.map { $0 / Float(rows) }, session.learner.outputBias?.read() ?? [])
    }
    let row = try #require(encoded[0].rivals.firstIndex { $0.count == 3 })
    let first = encoded[0].rivals[row].compactMap { id in
      encoded.firstIndex { $0.targets[row] == id }.map { $0 < 180 ? 0 : $0 < 270 ? 1 : 2 }
    }
    #expect(first.count == 3)
    let started = try shares()
    for (likelihood, answer) in zip(started.likelihoods, first) {
      #expect(abs(likelihood - Float(frequencies[answer]) / 100) < 0.02, "\(started.likelihoods) of \(first)")
    }
    let plain = try shares { $0.side.outputBias = nil }
    #expect(
      zip(plain.likelihoods, started.likelihoods).contains { abs($0 - $1) > 0.1 },
      "a model that needs no bias tests nothing")
    #expect(plain.bias.isEmpty && started.bias.contains { $0 != 0 })
  }

  @Test func averagedWeightsAreTheMeanOfTheLastSteps() async throws {
    var c = configuration
    c.averaging = 0.25  // 3 of 12 steps
    let run = RunDirectory(folder.file("averaged")), cut = RunDirectory(folder.file("cut"))
    try Trainer(backbone, c).train(Self.samples, into: run)
    // The same run, stopped after steps 10, 11 and 12.
    var sums: [String: [Double]] = [:]
    var own = configuration
    own.checkpointEvery = 1
    let single = RunDirectory(folder.file("single"))
    try Trainer(backbone, own).train(Self.samples, into: single) { event in
      guard case .checkpoint(let step) = event, step > 9,
        let file = try? Safetensors(path: single.path + "/checkpoints/step-\(step)/ladder.safetensors")
      else { return }
      for (name, entry) in file.tensors {
        let values = (try? entry.values()) ?? []
        sums[name] = zip(sums[name] ?? [Double](repeating: 0, count: entry.count), values).map {
          $0 + Double($1) / 3
        }
      }
    }
    for (name, entry) in try Safetensors(path: run.weightsPath).tensors {
      let expected = try #require(sums[name])
      for (a, b) in zip(try entry.values(), expected) { #expect(abs(Double(a) - b) < 1e-5 * max(1, abs(b))) }
    }
    let task = Task.detached { [backbone, c] in
      try Trainer(backbone, c).train(Self.samples, into: cut) {
        if case .step(let s) = $0, s.step == 11 { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    await #expect(throws: LadderError.self) { try await task.value }
    try Trainer(backbone, c).train(Self.samples, into: cut, resume: true)
    #expect(try weights(cut) == weights(run))
  }

  /// A run that grows averages over its own last steps, not over those that were the last before.
  @Test func aRunThatGrewAveragesItsLastSteps() throws {
    var c = configuration
    c.averaging = 0.25
    c.schedule = .constant
    c.warmup = 0
    let whole = RunDirectory(folder.file("whole")), grown = RunDirectory(folder.file("grown"))
    try Trainer(backbone, c).train(Self.samples, into: whole)
    let epochs = c.epochs
    c.epochs = epochs / 2
    try Trainer(backbone, c).train(Self.samples, into: grown)
    c.epochs = epochs
    try Trainer(backbone, c).train(Self.samples, into: grown, resume: true)
    #expect(try weights(grown) == weights(whole))
    #expect(try grown.manifest().finished)
    // One that is asked for less than it has done stays what it is.
    c.epochs = epochs / 2
    let error = #expect(throws: LadderError.self) {
      try Trainer(backbone, c).train(Self.samples, into: grown, resume: true)
    }
    #expect(error?.kind == .usage && error?.message.contains("`epochs`") == true)
    #expect(try grown.manifest().configuration.epochs == epochs && weights(grown) == weights(whole))
  }

  @Test func aWarmStartBeginsWithTheOtherRunsWeights() throws {
    let first = RunDirectory(folder.file("first")), second = RunDirectory(folder.file("second"))
    try Trainer(backbone, configuration).train(Self.samples, into: first)
    var c = configuration, losses: [Float] = []
    c.warmStart = first.path
    c.epochs = 1
    try Trainer(backbone, c).train(Self.samples, into: second) { if case .step(let s) = $0 { losses.append(s.loss) } }
    let cold = try String(contentsOfFile: first.metricsPath, encoding: .utf8).split(separator: "\n").map {
      try JSONDecoder().decode(TrainingStep.self, from: Data($0.utf8)).loss
    }
    #expect(losses[0] < 0.8 * cold[0])
    // What is left open and what that stands for are the same.
    var same = c
    same.side.gates = .scalar
    same.side.outputBias = false
    try Trainer(backbone, same).train(Self.samples, into: RunDirectory(folder.file("same")))
    let changes: [(inout TrainingConfiguration) -> Void] = [
      { $0.side.reduction = 4 }, { $0.side.rungs = .list([1, 2, 3]) }, { $0.side.gateTemperature = 0.5 },
      { $0.side.tapNorm = .rms },
    ]
    for (index, change) in changes.enumerated() {
      var other = c
      change(&other)
      #expect(throws: LadderError.self) {
        try Trainer(backbone, other).train(Self.samples, into: RunDirectory(folder.file("other-\(index)")))
      }
    }
  }

  @Test func theBestValidatedStateIsKept() throws {
    let run = RunDirectory(folder.file("run"))
    var c = configuration
    c.validateEvery = 2
    var validated: [(step: Int, loss: Float)] = []
    try Trainer(backbone, c).train(Self.samples, validation: Array(Self.samples.prefix(9)), into: run) {
      if case .validation(let step, let loss, _) = $0 { validated.append((step, loss)) }
    }
    let best = try #require(validated.min { $0.loss < $1.loss })
    let manifest = try run.manifest()
    #expect(validated.map(\.step) == [2, 4, 6, 8, 10, 12])
    #expect(manifest.step == best.step)
    #expect(manifest.validationLoss == best.loss)
    #expect(manifest.finished)
    let logged = try run.metrics().filter { $0.validationLoss != nil }
    #expect(logged.map(\.step) == validated.map(\.step) && logged.compactMap(\.validationLoss) == validated.map(\.loss))
  }

  @Test func anotherBackboneIsRefusedByName() throws {
    let run = RunDirectory(folder.file("run"))
    var c = configuration
    c.steps = 1
    try Trainer(backbone, c).train(Self.samples, into: run)
    let other = try Backbone(path: try folder.model("other.gguf") { $0.seed = 9 }, threads: 2, device: testDevice)
    let error = #expect(throws: LadderError.self) { try run.predictor(other) }
    #expect(error?.kind == .data)
    #expect(error?.message.contains(backbone.fingerprint) == true)
    #expect(error?.message.contains(other.fingerprint) == true)
  }

  @Test func anOldRunIsNotOverwritten() throws {
    let run = RunDirectory(folder.file("run"))
    var c = configuration
    c.steps = 1
    try Trainer(backbone, c).train(Self.samples, into: run)
    let before = try weights(run)
    #expect(throws: LadderError.self) { try Trainer(backbone, c).train(Self.samples, into: run) }
    c.learningRate = 1
    let error = #expect(throws: LadderError.self) {
      try Trainer(backbone, c).train(Self.samples, into: run, resume: true)
    }
    #expect(error?.message.contains("learningRate") == true)
    #expect(try weights(run) == before)
  }

  @Test func badSettingsAreRefused() throws {
    for change in [
      { $0.learningRate = 0 }, { $0.epochs = .nan }, { $0.batchSize = 0 }, { $0.side.tapDropout = 1 },
      { $0.warmup = 1.5 },
    ]
      as [(inout TrainingConfiguration) -> Void]
    {
      var c = configuration
      change(&c)
      let error = #expect(throws: LadderError.self) {
        try Trainer(backbone, c).train(Self.samples, into: RunDirectory(folder.file("none")))
      }
      #expect(error?.kind == .usage)
    }
    #expect(!FileManager.default.fileExists(atPath: folder.file("none")))
  }
}

@Suite struct ScheduleTests {
  @Test func ratesRiseAndFall() {
    #expect(Schedule.cosine.factor(step: 0, warmup: 10, total: 100) == 0.1)
    #expect(Schedule.cosine.factor(step: 10, warmup: 10, total: 100) == 1)
    #expect(abs(Schedule.cosine.factor(step: 100, warmup: 10, total: 100) - 0.1) < 1e-6)
    #expect(Schedule.linear.factor(step: 50, warmup: 0, total: 100) == 0.5)
    #expect(Schedule.constant.factor(step: 99, warmup: 0, total: 100) == 1)
  }
}

@Suite struct ManifestTests {
  /// Runs of the first format, which had a side network's settings beside an adapter's.
  @Test func manifestsOfTheFirstFormat() throws {
    let folder = try TemporaryFolder()
    func manifest(_ settings: String) throws -> RunDirectory.Manifest {
      let run = RunDirectory(folder.file("old"))
      try DurableFile.makeFolder(run.path)
      let json = """
        {"backbone": {"architecture": "gemma3", "blocks": 18, "fingerprint": "579d27133df084a9", "name": "Gemma 3 270m", "width": 640},
         "configuration": {"averaging": 0, "batchSize": 2, "checkpointEvery": 1000, "clip": 1, "eightBitOptimiser": false, "epochs": 1,
           "filtersGradient": true, "learningRate": 0.001, \(settings) "maxLength": 512, "microBatchTokens": 2048, "overlong": "trim",
           "schedule": "cosine", "seed": 0, "side": {"cross": "reclimb", "downsampler": {"linear": {}}, "gateTemperature": 0.1,
             "headSize": 64, "initialisation": "backbone", "normEpsilon": 1e-06, "passes": 2, "precision": "bf16", "ropeBase": 10000,
             "rungs": {"middle": {}}, "tapDropout": 0.2, "tapNorm": "standardised"},
           "validateEvery": 0, "warmup": 0.05, "weightDecay": 0.01},
         "finished": true, "format": 1, "method": "lst", "parameters": 3065346, "step": 120}
        """
      try Data(json.utf8).write(to: URL(fileURLWithPath: run.manifestPath))
      return try run.manifest()
    }
    var side = SideConfiguration()
    side.initialisation = .backbone
    side.passes = 2
    let ladder = try manifest("").configuration
    #expect(ladder.method == .ladder(side) && ladder.batchSize == 2 && ladder.maxLength == 512)
    let adapter = try manifest(
      "\"lora\": {\"alpha\": 8, \"checkpointing\": false, \"dropout\": 0, \"rank\": 4, \"rounds\": true, \"targets\": [\"q\"]},"
    )
    var lora = LoRAConfiguration()
    lora.rank = 4
    lora.alpha = 8
    lora.targets = [.q]
    #expect(adapter.configuration.method == .lora(lora))
  }
}
