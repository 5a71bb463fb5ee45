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

/// The head by each row's references, against the head over the whole vocabulary.
@Suite(.serialized) struct CachedHeadTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  /// A model, samples of it, their rows, and the references taken at these.
  private struct Case {
    let backbone: Backbone
    let head: CachedHead
    let samples: [EncodedSample]
    let targets: [Int32]
    let values: [Float]
    let references: [RowReference]
    /// Relative to the rows', what the tests move by.
    let direction: [Float]
  }

  private func make(_ architecture: TinyModel.Architecture, scale: Float = 0.5) throws -> Case {
    let backbone = try Backbone(
      path: try folder.model { model in
        model.architecture = architecture
        model.vocabulary = 3000
        model.type = GGML_TYPE_F32
      }, threads: 2, device: "CPU")
    let samples = (0..<8).compactMap { i in
      EncodedSample(sequence: GradientTests.text(14, seed: i), learned: (0..<14).map { $0 > 3 })
    }
    let targets = samples.flatMap(\.targets),
      cache = try CacheOptions(directory: folder.file("cache")).open(backbone, TapNeeds(rungs: [1, 2]), longest: 1)
    let head = try CachedHead(
      backbone, try cache.references(common: Array(HeadReferences.commonEntries(samples).prefix(20))))
    var random = SeededRandom(seed: 6)
    let values = (0..<(backbone.width * targets.count)).map { _ in random.normal() * scale },
      direction = values.map { _ in random.normal() * scale }
    let pool = TensorPool(backbone.engine), rows = try pool.make(values, [backbone.width, targets.count])
    let known = try SurveyedLoss(backbone).rows(rows, 0..<targets.count, targets: targets)
    let references = try head.take(rows, 0..<targets.count, known, targets: targets)
    return Case(
      backbone: backbone, head: head, samples: samples, targets: targets, values: values, references: references,
      direction: direction)
  }

  /// Losses and gradients both ways at the rows moved by `step` times the direction.
  private func both(_ c: Case, step: Float) throws -> (cached: [Float], exact: [Float], gradientError: Double) {
    let pool = TensorPool(c.backbone.engine), shape = [c.backbone.width, c.targets.count]
    let rows = try pool.make(zip(c.values, c.direction).map { $0 + step * $1 }, shape),
      gradient = try pool.make(.float32, shape)
    let cached = try c.head.evaluate(rows, c.references, targets: c.targets, gradient: gradient, scale: 1),
      own = gradient.read()
    let exact = try CrossEntropy(c.backbone, dense: true).evaluate(rows, targets: c.targets, gradient: gradient)
    var error = 0.0, square = 0.0
    for (a, b) in zip(own, gradient.read()) {
      error += Double((a - b) * (a - b))
      square += Double(b * b)
    }
    return (cached, exact, (error / square).squareRoot())
  }

  /// Where it was taken a reference gives the exact loss (the common entries' kernel and the rest's mass round by 1e-6
  /// each) and the exact gradient up to what was drawn and BF16.
  @Test(arguments: [TinyModel.Architecture.qwen2, .gemma2, .granite]) func aReferenceIsExactWhereItWasTaken(
    _ architecture: TinyModel.Architecture
  ) throws {
    let c = try make(architecture), result = try both(c, step: 0)
    for (a, b) in zip(result.cached, result.exact) { #expect(abs(a - b) < 1e-3) }
    #expect(result.gradientError < 0.005)
    #expect(c.references.allSatisfy { $0.ids.count <= HeadReferences.limit + 1 && $0.ids == $0.ids.sorted() })
    #expect(
      c.references.contains { $0.ids.count >= HeadReferences.limit }, "rows so sure that nothing is left test no rest")
  }

  /// Beside it the loss is right to first order: a tenth of the way the error is under a thirtieth, and small beside
  /// the change.
  @Test(arguments: [TinyModel.Architecture.qwen2, .gemma2]) func besideItTheLossIsRightToFirstOrder(
    _ architecture: TinyModel.Architecture
  ) throws {
    let c = try make(architecture), start = try both(c, step: 0).exact
    func error(_ step: Float) throws -> (error: Double, change: Double) {
      let result = try both(c, step: step)
      let errors = zip(result.cached, result.exact).map { Double(abs($0 - $1)) },
        changes = zip(result.exact, start).map { Double(abs($0 - $1)) }
      return (errors.reduce(0, +), changes.reduce(0, +))
    }
    let near = try error(0.02), far = try error(0.2)
    #expect(near.error < far.error / 30 + 1e-4 * Double(c.targets.count))
    #expect(far.error < 0.1 * far.change, "\(far)")
  }

  @Test func referencesAreKeptAndReadAsTheyWere() throws {
    let c = try make(.qwen2), references = c.head.references
    #expect(!references.hold(c.samples) && references.read(c.samples) == nil)
    references.write(c.samples, c.references)
    #expect(references.hold(c.samples))
    let again = try #require(references.read(Array(c.samples.reversed())))
    let perSample = c.references.count / c.samples.count
    for (index, row) in again.enumerated() {
      let own = c.references[(c.samples.count - 1 - index / perSample) * perSample + index % perSample]
      #expect(row.ids == own.ids && row.bias == own.bias && row.weights == own.weights)
    }
    // Other targets of the same tokens have no reference.
    let other = c.samples[0].tokens + [(c.samples[0].targets.last ?? 0) + 1]
    #expect(
      references.read([try #require(EncodedSample(sequence: other, learned: other.indices.map { $0 > 3 }))]) == nil)
  }

  /// Two epochs with the cached head end near those with the exact one, say how far they drifted, and go on bit for bit
  /// after a stop.
  @Test func trainingWithIt() async throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: "CPU"),
      cache = CacheOptions(directory: folder.file("runs"))
    func train(_ name: String, _ head: HeadMode?, stopAfter: Int? = nil, resume: Bool = false) async throws -> (
      loss: Float, drift: (Double, Double)?, weights: Data
    ) {
      var c = TrainerTests.configuration
      c.head = head
      c.epochs = 3
      c.checkpointEvery = 4
      let configuration = c, run = RunDirectory(folder.file(name))
      let result = Task { () throws -> (Float, (Double, Double)?) in
        var loss: Float = 0, drift: (Double, Double)?
        try Trainer(backbone, configuration, cache: cache).train(TrainerTests.samples, into: run, resume: resume) {
          event in
          if case .step(let s) = event {
            loss = s.loss
            if s.step == stopAfter { withUnsafeCurrentTask { $0?.cancel() } }
          }
          if case .headDrift(_, let mean, let gradient) = event { drift = (mean, gradient) }
        }
        return (loss, drift)
      }
      do {
        let (loss, drift) = try await result.value
        return (loss, drift, try Data(contentsOf: URL(fileURLWithPath: run.weightsPath)))
      } catch let error as LadderError where error.kind == .interrupted && stopAfter != nil { return (0, nil, Data()) }
    }
    let exact = try await train("exact", nil)
    let steps = try RunDirectory(folder.file("exact")).metrics().count, perEpoch = steps / 3
    // Stopped in the second epoch, before any other run left references.
    _ = try await train("stopped", .cached, stopAfter: perEpoch + 2)
    let resumed = try await train("stopped", .cached, resume: true)
    try FileManager.default.removeItem(atPath: folder.file("runs"))
    let whole = try await train("whole", .cached)
    #expect(resumed.weights == whole.weights)
    #expect(abs(whole.loss - exact.loss) < 0.02, "\(whole.loss) against \(exact.loss)")
    let drift = try #require(whole.drift)
    #expect(abs(drift.0) < 0.01 && drift.1 < 0.1, "\(drift)")
    let metrics = try RunDirectory(folder.file("whole")).metrics()
    #expect(metrics[..<perEpoch].allSatisfy { $0.headDrift == nil })
    #expect(
      metrics[perEpoch...].contains { $0.headDrift != nil } && metrics[perEpoch...].contains { $0.headDrift == nil })
    // Another run finds every reference and uses them from its first step on.
    let again = try await train("again", .cached)
    #expect(try RunDirectory(folder.file("again")).manifest().beginsFromReferences == true)
    #expect(abs(again.loss - exact.loss) < 0.02)
  }
}
