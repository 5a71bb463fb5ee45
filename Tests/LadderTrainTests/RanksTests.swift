import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
@testable import LadderTrain
import TestModels
import Testing

/// Several ranks, as threads, against one.
@Suite(.serialized) struct RanksTests {
  let folder: TemporaryFolder
  let path: String
  init() throws {
    folder = try TemporaryFolder()
    // In 8 bits a last bit's difference in the weights would round some row of the head's to another byte.
    path = try folder.model { $0.type = GGML_TYPE_F32 }
  }

  // MARK: - Words and parts

  @Test func whatARankSaysArrives() {
    let words = [
      RankWord([]), RankWord([1, 2, 3, .max]), RankWord(.data, "sample 3 is empty"),
      RankWord(.inputOutput, String(repeating: "é", count: 300)),
    ]
    for word in words {
      let bytes = word.encoded, other = RankWord(bytes[...])
      #expect(bytes.count == RankWord.bytes && other.kind == word.kind && other.numbers == word.numbers)
      #expect(word.message.hasPrefix(other.message) && (word.message.count < 200) == (other.message == word.message))
    }
  }

  @Test func everySampleIsWorkedOnce() {
    var random = SeededRandom(seed: 4, 0)
    for count in [1, 2, 3, 5] {
      let lengths = (0..<17).map { _ in Int(random.next() % 90) }
      let parts = ThreadGroup.members(count).map { Ranks($0).part(lengths: lengths) }
      #expect(parts.joined().sorted() == Array(lengths.indices))
      let loads = parts.map { $0.reduce(0) { $0 + lengths[$1] } }
      #expect((loads.max() ?? 0) - (loads.min() ?? 0) <= lengths.max() ?? 0)
    }
    let few = ThreadGroup.members(4).map { Ranks($0).part(lengths: [5, 9]) }
    #expect(few == [[1], [0], [], []])
  }

  @Test func whatFailsOnOneEndsAll() {
    let results = ThreadGroup.run(3) { member in
      let ranks = Ranks(member)
      try ranks.together {}
      try ranks.together { if member.rank == 1 { throw LadderError(.data, "it is broken") } }
    }
    let errors = results.map { result in #expect(throws: LadderError.self) { try result.get() } }
    #expect(errors.map { $0?.kind } == [.data, .data, .data])
    #expect(errors.map { $0?.message } == ["process 1: it is broken", "it is broken", "process 1: it is broken"])
  }

  // MARK: - Sums

  /// Against a sum in the ranks' order, to the bit; in BF16 each number is rounded twice.
  @Test(arguments: [GradientFormat.float32, .bfloat16], [1, 2, 3, 5])
  func gradientsAreSummed(_ format: GradientFormat, _ count: Int) throws {
    let specifications = (0..<7).map {
      Parameters.Specification("p\($0)", [13 + 5 * $0, 1 + $0 % 3], decays: $0 % 2 == 0)
    }
    // p2 is in two parts, p6 in none.
    let order = [["p5", "p4", "p2"], ["p2", "p3"], [], ["p1", "p0"]]
    @Sendable func gradient(_ rank: Int, _ name: String, _ count: Int) -> [Float] {
      var random = SeededRandom(seed: UInt64(rank), Int(name.dropFirst()) ?? 0)
      return (0..<count).map { _ in random.normal() }
    }
    let results = ThreadGroup.run(count) { member -> [[Float]] in
      let engine = try Engine(threads: 1)
      let parameters = try Parameters(specifications, engine, trainable: true)
      let exchange = GradientExchange(parameters, order: order, member, format: format)
      var sums: [[Float]] = []
      for _ in 0..<2 {
        exchange.begin()
        for part in order.indices {
          for name in order[part] + (part == 3 ? ["p6"] : []) {
            guard let tensor = parameters.gradient(name) else { continue }
            tensor.write(gradient(member.rank, name, tensor.count))
          }
          exchange.ready(part)
        }
        try exchange.finish()
        sums = specifications.compactMap { parameters.gradient($0.name)?.read() }
      }
      return sums
    }
    let all = try results.map { try $0.get() }
    #expect(all.allSatisfy { $0 == all[0] })
    for (specification, sums) in zip(specifications, all[0]) {
      let parts = (0..<count).map { gradient($0, specification.name, specification.count) }
      for place in sums.indices {
        let exact = parts.reduce(Float(0)) { $0 + $1[place] }
        let size = parts.reduce(Float(0)) { $0 + abs($1[place]) }
        #expect(format == .float32 ? sums[place] == exact : abs(sums[place] - exact) <= size / 128)
      }
    }
  }

  // MARK: - Training

  private static var configuration: TrainingConfiguration {
    var c = TrainerTests.configuration
    c.side.tapDropout = 0
    c.filtersGradient = false
    // Each sample by itself: what is computed together rounds together.
    c.microBatchTokens = 1
    c.epochs = 1.5
    return c
  }

  private func train(
    _ count: Int, _ configuration: TrainingConfiguration, into name: String, validation: [Sample]? = nil,
    resume: Bool = false
  ) throws -> [TrainingStep] {
    let run = RunDirectory(folder.file(name)), path = path
    let results = ThreadGroup.run(count) { member in
      let backbone = try Backbone(path: path, threads: 1, device: testDevice)
      try Trainer(backbone, configuration).train(
        TrainerTests.samples, validation: validation, into: run, resume: resume, among: Ranks(member))
    }
    for result in results { _ = try result.get() }
    return try run.metrics()
  }

  private func expectAlike(_ a: [TrainingStep], _ b: [TrainingStep], within tolerance: Float) {
    #expect(a.map(\.step) == b.map(\.step) && a.map(\.tokens) == b.map(\.tokens) && !a.isEmpty)
    for (one, other) in zip(a, b) {
      #expect(abs(one.loss - other.loss) < tolerance, "step \(one.step)")
      #expect(abs(one.gradientNorm - other.gradientNorm) < tolerance * max(1, one.gradientNorm), "step \(one.step)")
      #expect((one.validationLoss == nil) == (other.validationLoss == nil))
      #expect(abs((one.validationLoss ?? 0) - (other.validationLoss ?? 0)) < tolerance)
    }
  }

  static let methods: [(String, TuningMethod)] = {
    var mixture = configuration.side
    Climb(passes: 2, cross: .mixture).apply(&mixture)
    var lora = LoRAConfiguration()
    lora.rank = 4
    lora.dropout = 0
    return [("lst", .ladder(configuration.side)), ("xladder", .ladder(mixture)), ("qlora", .lora(lora))]
  }()

  @Test(arguments: [0, 1, 2]) func ranksLearnWhatOneLearns(_ method: Int) throws {
    var c = Self.configuration
    c.method = Self.methods[method].1
    c.validateEvery = 4
    c.averaging = 0.3
    c.eightBitOptimiser = method == 1
    let held = Array(TrainerTests.samples.prefix(11))
    let alone = try train(1, c, into: "one", validation: held),
      together = try train(3, c, into: "three", validation: held)
    // Inside the model the least difference is rounded to another of the few steps of a quantised product.
    let same = method == 2 ? 2 : alone.count
    expectAlike(Array(alone.prefix(same)), Array(together.prefix(same)), within: 2e-4)
    expectAlike(alone, together, within: 3e-2)
    c.gradientFormat = .bfloat16
    expectAlike(alone, try train(2, c, into: "rounded", validation: held), within: 3e-2)
  }

  @Test func aFailureLeavesAStateToGoOnFrom() throws {
    let c = Self.configuration, run = RunDirectory(folder.file("run")), path = path
    let alone = try train(1, c, into: "alone")
    // The others are gone at the fifth step.
    let results = ThreadGroup.run(3) { member in
      let backbone = try Backbone(path: path, threads: 1, device: testDevice)
      let ranks = Ranks(member)
      try Trainer(backbone, c).train(TrainerTests.samples, into: run, among: ranks) { event in
        if case .step(let step) = event, step.step == 5 { member.die() }
      }
    }
    for result in results { #expect(throws: LadderError.self) { try result.get() } }
    let error = #expect(throws: LadderError.self) { try results[0].get() }
    #expect(error?.kind == .interrupted && error?.message.contains("the state is saved") == true)
    // On two ranks, and to the end alone.
    expectAlike(alone, try train(2, c, into: "run", resume: true), within: 2e-4)
  }

  @Test func oneThatIsStoppedStopsAll() async throws {
    let c = Self.configuration, run = RunDirectory(folder.file("run")), path = path
    let members = ThreadGroup.members(2)
    let other = Task.detached {
      await withCheckedContinuation { continuation in
        Thread.detachNewThread {
          continuation.resume(
            returning: Result {
              try Trainer(Backbone(path: path, threads: 1, device: testDevice), c).train(
                TrainerTests.samples, into: run, among: Ranks(members[1]))
            })
        }
      }
    }
    let first = Task.detached {
      let backbone = try Backbone(path: path, threads: 1, device: testDevice)
      return try Trainer(backbone, c).train(TrainerTests.samples, into: run, among: Ranks(members[0])) { event in
        if case .step(let step) = event, step.step == 4 { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    let stopped = await first.result, ended = await other.value
    for result in [stopped.mapError { $0 as any Error }, ended] {
      let error = #expect(throws: LadderError.self) { try result.get() }
      #expect(error?.kind == .interrupted)
    }
    expectAlike(try train(1, c, into: "alone"), try train(1, c, into: "run", resume: true), within: 2e-4)
  }

  /// Machines of several kinds round unlike; their parameters are evened from time to time.
  @Test func parametersThatCameApartAreEvened() throws {
    let c = Self.configuration, path = path
    let results = ThreadGroup.run(2) { member -> [[Float]] in
      let backbone = try Backbone(path: path, threads: 1, device: testDevice)
      let session = try TrainingSession(backbone, c, maxTokens: 64, ranks: Ranks(member))
      let samples = try c.encoder(backbone).examples(TrainerTests.samples, name: "").examples
      try session.initialise(samples.flatMap(\.sequences))
      let values = session.learner.parameters.groups[0].values
      var apart = values.read()
      apart[7] += Float(member.rank) * 0.25
      values.write(apart)
      _ = try session.take(Array(samples.prefix(6)), number: 0, learningRate: 1e-3)
      return session.learner.parameters.groups.map { $0.values.read() }
    }
    let all = try results.map { try $0.get() }
    #expect(all[0] == all[1])
  }

  /// With dropout and drawn entries of the head, which each rank draws for itself.
  @Test func whatIsDrawnDiffersAndLearnsAsWell() throws {
    var c = TrainerTests.configuration
    c.side.tapDropout = 0.1
    c.epochs = 6
    let alone = try train(1, c, into: "alone"), together = try train(2, c, into: "together")
    let ends = [alone, together].map { run in run.suffix(6).reduce(0) { $0 + $1.loss } / 6 }
    #expect(
      alone.count == together.count && ends[0] < alone[0].loss / 2 && abs(ends[0] - ends[1]) < 0.1 * alone[0].loss)
    #expect(alone.last?.loss != together.last?.loss)
  }

  @Test func ranksWithOtherSamplesAreTold() throws {
    let path = path, c = Self.configuration, run = RunDirectory(folder.file("run"))
    let results = ThreadGroup.run(2) { member in
      let backbone = try Backbone(path: path, threads: 1, device: testDevice)
      _ = try Trainer(backbone, c).train(
        member.rank == 0 ? TrainerTests.samples : TrainerTests.samples.reversed(), into: run, among: Ranks(member))
    }
    for result in results {
      let error = #expect(throws: LadderError.self) { try result.get() }
      #expect(error?.kind == .usage && error?.message.contains("process 1 has another training samples") == true)
    }
  }

  @Test func aCachedHeadIsForOneProcess() throws {
    var c = Self.configuration
    c.head = .cached
    let error = #expect(throws: LadderError.self) { try train(2, c, into: "run") }
    #expect(error?.kind == .usage)
  }
}
