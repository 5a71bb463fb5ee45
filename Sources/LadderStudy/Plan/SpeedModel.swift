import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
import LadderTrain

/// The time of training, from a few seconds' measurement of this machine on three of the model's blocks.
///
/// Every part is measured by the code that trains, at two lengths, and taken as a + b·length per token (attention's
/// share grows with the length); blocks, layers and vocabulary then scale it up.
public final class SpeedModel: MeasuredMachine {
  /// Seconds per token and unit of size, as a line over the sample's length.
  struct Line: Sendable {
    var base: Double
    var slope: Double
    func callAsFunction(_ length: Int) -> Double { max(0, base + slope * Double(length)) }

    init(short: (length: Int, value: Double), long: (length: Int, value: Double)) {
      slope = max(0, (long.value - short.value) / Double(long.length - short.length))
      base = short.value - slope * Double(short.length)
    }
  }

  private let model: ModelDimensions
  /// Per token and block.
  private let block: Line
  /// Seconds per row that carries loss.
  let headRow: Double

  private static let lengths = (256, 1024)

  private let proxy: Backbone
  private let folder: TemporaryFile

  /// Measures the model's blocks and head.
  package init(_ file: GGUFFile, threads: Int? = nil, device: String? = nil) throws {
    model = try ModelDimensions(file)
    let whole = model
    func proxy(blocks: Int, vocabulary: Int) throws -> (TemporaryFile, Backbone) {
      let path = TemporaryFile("gguf")
      try ProxyModel(of: file, whole, blocks: blocks, vocabulary: vocabulary).write(path.path)
      return (path, try Backbone(path: path.path, threads: threads, device: device))
    }
    headRow = try Self.headRow(proxy(blocks: 1, vocabulary: max(ByteTokenizer.vocabulary, model.vocabulary)).1)
    // llama.cpp works out the logits of a row of each text; they are few here.
    let (path, proxy) = try proxy(blocks: 3, vocabulary: 16384)
    folder = path
    self.proxy = proxy
    var narrow = SideConfiguration()
    narrow.rungs = .list([1])
    narrow.reduction = Double(model.width) / 64
    let times = try Self.measure(proxy, .ladder(narrow))
    func perBlock(_ t: Phases) -> Double { t.backbone / Double(t.tokens * proxy.blocks) }
    block = Line(short: (Self.lengths.0, perBlock(times.short)), long: (Self.lengths.1, perBlock(times.long)))
  }

  package var blocks: Int { proxy.blocks }

  /// Seconds of the backbone's forward pass per token.
  package func forward(length: Int) -> Double { block(length) * Double(model.blocks) }

  private struct Part {
    let perToken: Line
    let optimiserPerParameter: Double
  }

  private var parts: [(method: TuningMethod, part: Part)] = []

  package func trainedPart(_ method: TuningMethod, length: Int) throws -> (
    perToken: Double, optimiserPerParameter: Double
  ) {
    let part = try parts.first { $0.method == method }?.part ?? measurePart(method)
    return (part.perToken(length), part.optimiserPerParameter)
  }

  private func measurePart(_ method: TuningMethod) throws -> Part {
    let times = try Self.measure(proxy, method)
    func perToken(_ t: Phases) -> Double { t.trained / Double(t.tokens) }
    let part = Part(
      perToken: Line(short: (Self.lengths.0, perToken(times.short)), long: (Self.lengths.1, perToken(times.long))),
      optimiserPerParameter: times.long.optimiser / Double(max(1, times.parameters)))
    parts.append((method, part))
    return part
  }

  // MARK: - Measuring

  private struct Phases {
    var tokens: Int
    var backbone: Double
    var trained: Double
    var optimiser: Double
  }

  /// Seconds per row of a head: logits, softmax and the gradient. The rows are as sure as a model's own.
  private static func headRow(_ backbone: Backbone) throws -> Double {
    let rows = 512, pool = TensorPool(backbone.engine), loss = try CrossEntropy(backbone)
    var random = SeededRandom(seed: 9)
    let input = try pool.make((0..<(rows * backbone.width)).map { _ in random.normal() * 16 }, [backbone.width, rows])
    let gradient = try pool.make(.float32, [backbone.width, rows]),
      targets = (0..<rows).map { Int32($0 % backbone.vocabulary) }
    let best = try (0..<4).reduce(Double.infinity) { best, _ in
      let start = ContinuousClock.now
      _ = try loss.evaluate(input, targets: targets, gradient: gradient)
      return min(best, (ContinuousClock.now - start).seconds)
    }
    return best / Double(rows)
  }

  private static func measure(_ proxy: Backbone, _ method: TuningMethod) throws -> (
    short: Phases, long: Phases, parameters: Int
  ) {
    var configuration = TrainingConfiguration()
    configuration.method = method
    let session = try TrainingSession(proxy, configuration, maxTokens: lengths.1)
    var random = SeededRandom(seed: 3)
    func sample(_ length: Int) -> [EncodedSample] {
      let sequence = (0...length).map { _ in Int32(random.next() % 250) }
      return [EncodedSample(sequence: sequence, learned: sequence.map { _ in true })].compactMap { $0 }
    }
    let short = sample(lengths.0), long = sample(lengths.1)
    try session.initialise(short)
    func run(_ batch: [EncodedSample], _ number: Int) throws -> Phases {
      let before = session.phases
      _ = try session.take(batch, number: number, learningRate: 1e-5)
      let after = session.phases
      return Phases(
        tokens: batch[0].tokens.count, backbone: after.backbone - before.backbone,
        trained: after.trained - before.trained,
        optimiser: after.optimiser - before.optimiser)
    }
    // The first of each shape allocates, and the fastest of the next counts; where steps take seconds there are fewer.
    var number = 0
    func fastest(_ batch: [EncodedSample], of repeats: Int) throws -> Phases {
      let start = ContinuousClock.now
      var runs: [Phases] = []
      while runs.count <= repeats, runs.isEmpty || (ContinuousClock.now - start).seconds < 2 {
        runs.append(try run(batch, number))
        number += 1
      }
      if runs.count > 1 { runs.removeFirst() }
      return runs.reduce(runs[0]) { best, run in
        Phases(
          tokens: best.tokens, backbone: min(best.backbone, run.backbone), trained: min(best.trained, run.trained),
          optimiser: min(best.optimiser, run.optimiser))
      }
    }
    return (try fastest(short, of: 3), try fastest(long, of: 2), session.learner.parameters.count)
  }
}

/// A file's path that is removed with the object.
final class TemporaryFile: Sendable {
  let path: String
  init(_ kind: String) {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("ladder-\(UUID().uuidString).\(kind)").path
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
}
