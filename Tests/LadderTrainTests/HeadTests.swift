import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import TestModels
import Testing

@testable import LadderTrain

/// The head's losses and gradients against a double-precision reference over its dequantised weights, and against
/// differences.
@Suite(.serialized) struct HeadTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  /// −ln p(target) and Wᵀ·((p − y)·f′) in double precision over the whole vocabulary.
  private func reference(_ backbone: Backbone, _ rows: [Float], _ targets: [Int32], _ weights: [Float]) -> (
    losses: [Double], gradient: [Double]
  ) {
    let head = backbone.head, d = head.width
    var losses: [Double] = [], gradient: [Double] = []
    for (row, target) in targets.enumerated() {
      let x = rows[(row * d)..<((row + 1) * d)].map(Double.init)
      var logits = [Double](repeating: 0, count: head.vocabulary)
      for v in logits.indices {
        var product = 0.0
        for c in 0..<d { product += Double(weights[v * d + c]) * x[c] }
        logits[v] = head.logit(atProduct: product)
      }
      let most = logits.max() ?? 0
      var sum = 0.0
      for logit in logits { sum += exp(logit - most) }
      losses.append(most + log(sum) - logits[Int(target)])
      var own = [Double](repeating: 0, count: d)
      for (v, logit) in logits.enumerated() {
        let t = logit / Double(head.outer),
          slope = head.capped ? Double(head.inner * head.outer) * (1 - t * t) : Double(head.outer)
        let g = (exp(logit - most) / sum - (v == Int(target) ? 1 : 0)) * slope
        for c in 0..<d { own[c] += g * Double(weights[v * d + c]) }
      }
      gradient += own
    }
    return (losses, gradient)
  }

  private func weights(_ backbone: Backbone) throws -> [Float] {
    let name = backbone.head.description.tensor
    return try backbone.file.values(of: try #require(backbone.file.tensors.first { $0.name == name }))
  }

  private func gradient(_ loss: CrossEntropy, _ backbone: Backbone, _ rows: Tensor, _ targets: [Int32]) throws -> (
    losses: [Float], gradient: [Float]
  ) {
    let pool = TensorPool(backbone.engine), gradient = try pool.make(.float32, [rows[0], rows[1]])
    return (try loss.evaluate(rows, targets: targets, gradient: gradient), gradient.read())
  }

  /// ‖a − b‖ / ‖b‖.
  private func relativeError(_ a: some Sequence<Float>, _ b: some Collection<Double>) -> Double {
    let error = zip(a, b).reduce(0.0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
    return (error / b.reduce(1e-30) { $0 + $1 * $1 }).squareRoot()
  }

  struct Shape: Sendable, CustomStringConvertible {
    var architecture = TinyModel.Architecture.qwen2
    var width = 64
    var vocabulary = 512
    var type = GGML_TYPE_Q8_0
    var rows = 70
    var description: String {
      "\(architecture) \(width)×\(vocabulary) \(String(cString: ggml_type_name(type))), \(rows) rows"
    }
  }

  /// Relative error of the whole gradient under 0.5%, with few rows (whose survey rounds them to 8 bits where the head
  /// is quantised) and many (F16), and in the dense form. Losses within 1e-3: a survey's rounding touches only the mass
  /// that is drawn from.
  @Test(arguments: [
    Shape(), Shape(rows: 3), Shape(architecture: .gemma2), Shape(architecture: .gemma2, rows: 3),
    Shape(architecture: .granite),
    Shape(width: 96, vocabulary: 3000, type: GGML_TYPE_Q4_0), Shape(width: 256, vocabulary: 2048, type: GGML_TYPE_Q6_K),
    Shape(width: 256, vocabulary: 2051, type: GGML_TYPE_Q4_K, rows: 5), Shape(vocabulary: 2048, type: GGML_TYPE_F32),
    Shape(vocabulary: 2048, type: GGML_TYPE_F16),
    Shape(architecture: .gemma3, vocabulary: 9000, type: GGML_TYPE_BF16),
    Shape(vocabulary: 2048, type: GGML_TYPE_Q5_0, rows: 600),
  ]) func gradientIsThatOfTheWholeVocabulary(_ shape: Shape) throws {
    let backbone = try Backbone(
      path: try folder.model { model in
        model.architecture = shape.architecture
        model.width = shape.width
        model.feedForward = 256
        model.vocabulary = shape.vocabulary
        model.type = shape.type
      }, threads: 2, device: testDevice)
    var random = SeededRandom(seed: 4)
    let d = backbone.width, n = shape.rows
    // From flat rows to peaked ones.
    var values: [Float] = []
    for row in 0..<n {
      let scale = 0.02 + 0.2 * Float(row % 7)
      for _ in 0..<d { values.append(random.normal() * scale) }
    }
    let targets = (0..<n).map { row in Int32((row * 61 + 3) % shape.vocabulary) }
    let pool = TensorPool(backbone.engine), rows = try pool.make(values, [d, n])
    let expected = reference(backbone, values, targets, try weights(backbone))
    for isDense in [false, true] {
      let own = try gradient(try CrossEntropy(backbone, dense: isDense), backbone, rows, targets)
      let error = relativeError(own.gradient, expected.gradient),
        worst = zip(own.losses, expected.losses).map { abs(Double($0) - $1) }.max() ?? 0
      #expect(error < 0.005, "\(shape), dense \(isDense)")
      #expect(worst < 1e-3, "\(shape), dense \(isDense)")
    }
  }

  /// The dense form over many tiles is what it is over one, up to the order of its sums: 1e-5 of the gradient.
  @Test(arguments: curves) func denseTilesAddUp(_ architecture: TinyModel.Architecture) throws {
    let backbone = try Backbone(
      path: try folder.model { model in
        model.architecture = architecture
        model.vocabulary = 1000
      }, threads: 2, device: testDevice)
    let pool = TensorPool(backbone.engine), d = backbone.width, input = try pool.make(rows(backbone, 9), [d, 9])
    let results = try [8 << 20, 64 << 10].map { bytes in
      let gradient = try pool.make(.float32, [d, 9])
      let losses = try DenseLoss(backbone, tileBytes: bytes).evaluate(
        input, 2..<9, targets: (0..<7).map { 100 * $0 }, gradient: gradient, scale: 0.5)
      return (losses, Array(gradient.read()[(2 * d)...]).map(Double.init))
    }
    #expect(zip(results[0].0, results[1].0).allSatisfy { abs($0 - $1) < tolerance(1e-4, cuda: 0.02) })
    #expect(relativeError(results[1].1.map { Float($0) }, results[0].1) < tolerance(1e-5, cuda: 2e-3))
  }

  /// The dense form's shares of several entries a row are the scan's: up to the order of sums.
  @Test(arguments: curves) func denseSharesAreTheScans(_ architecture: TinyModel.Architecture) throws {
    let backbone = try exactBackbone(architecture), wanted: [[Int32]] = [[5], [7, 300, 9], [], [11, 2]]
    let pool = TensorPool(backbone.engine), input = try pool.make(rows(backbone, 4), [backbone.width, 4])
    let own = try DenseLoss(backbone).logProbabilities(input, 0..<4, of: wanted),
      scan = try CrossEntropy(backbone).logProbabilities(input, of: wanted)
    #expect(own.map(\.count) == wanted.map(\.count))
    for (a, b) in zip(own.joined(), scan.joined()) { #expect(abs(a - b) < 1e-4) }
  }

  private func rows(_ backbone: Backbone, _ count: Int, scale: Float = 1) -> [Float] {
    var random = SeededRandom(seed: 3)
    return (0..<(backbone.width * count)).map { _ in random.normal() * scale }
  }

  /// A model in F32: a quantised kernel rounds its input row to 8 bits, which differences would see as noise.
  private func exactBackbone(_ architecture: TinyModel.Architecture) throws -> Backbone {
    try Backbone(
      path: try folder.model { model in
        model.architecture = architecture
        model.type = GGML_TYPE_F32
      }, threads: 2, device: testDevice)
  }

  /// Compares every seventh number of a gradient with the central difference of `sum`, which reads `values` from
  /// `rows`.
  private func expectDifferences(_ gradient: [Float], of values: [Float], in rows: Tensor, _ sum: () throws -> Float)
    throws
  {
    let h: Float = 0.01
    for i in stride(from: 0, to: values.count, by: 7) {
      func moved(_ change: Float) throws -> Float {
        var moved = values
        moved[i] += change
        rows.write(moved)
        return try sum()
      }
      let numeric = try (moved(h) - moved(-h)) / (2 * h)
      #expect(abs(numeric - gradient[i]) < 2e-3, "\(i): \(gradient[i]) against \(numeric)")
    }
  }

  static let curves: [TinyModel.Architecture] = [.qwen2, .gemma2, .granite]

  /// Against central differences in the head's input. Losses of 20 nats err by 2e-6, over 2h = 0.02 that is 1e-4; the
  /// cubic term is h²/6.
  @Test(arguments: curves) func gradientAgreesWithDifferences(_ architecture: TinyModel.Architecture) throws {
    let backbone = try exactBackbone(architecture), values = rows(backbone, 3), targets: [Int32] = [5, 200, 411]
    let pool = TensorPool(backbone.engine), input = try pool.make(values, [backbone.width, 3])
    let loss = try CrossEntropy(backbone), own = try gradient(loss, backbone, input, targets)
    try expectDifferences(own.gradient, of: values, in: input) {
      try loss.evaluate(input, targets: targets).reduce(0, +)
    }
  }

  /// Rows among rivals: their losses are those of the whole softmax divided by the rivals' share of it, rows without
  /// rivals keep the whole vocabulary, and the gradient is that of differences.
  @Test(arguments: curves) func rivalsShareTheWholeSoftmax(_ architecture: TinyModel.Architecture) throws {
    let backbone = try exactBackbone(architecture), values = rows(backbone, 4), d = backbone.width,
      targets: [Int32] = [5, 200, 411, 8]
    let rivals: [[Int32]] = [[5, 9], [7, 200, 300], [], [8, 9]]
    let pool = TensorPool(backbone.engine), input = try pool.make(values, [d, 4]),
      slopes = try pool.make(.float32, [d, 4])
    let loss = try CrossEntropy(backbone),
      losses = try loss.evaluate(input, targets: targets, rivals: rivals, gradient: slopes)
    let own = slopes.read(), shares = try loss.logProbabilities(input, of: zip(rivals, targets).map { [$1] + $0 })
    for (loss, logs) in zip(losses, shares) {
      let share = logs.count == 1 ? 1 : logs.dropFirst().reduce(0.0) { $0 + exp(Double($1)) }
      #expect(abs(Double(loss) + Double(logs[0]) - log(share)) < tolerance(1e-4, cuda: 0.02))
    }
    try expectDifferences(own, of: values, in: input) {
      try loss.evaluate(input, targets: targets, rivals: rivals).reduce(0, +)
    }
  }

  @Test func unlikelyTargetsHaveFiniteLosses() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: testDevice)
    let pool = TensorPool(backbone.engine), input = try pool.make(rows(backbone, 1, scale: 60), [backbone.width, 1])
    let loss = try CrossEntropy(backbone)
    var worst: Float = 0
    for target in Int32(0)..<40 {
      let judged = try loss.evaluate(input, targets: [target])[0], own = try gradient(loss, backbone, input, [target])
      #expect(judged.isFinite && own.losses[0].isFinite && own.gradient.reduce(0, +).isFinite)
      worst = max(worst, judged)
    }
    #expect(worst > 100)
  }

  @Test func whatIsNoNumberHasNoLoss() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: testDevice)
    let pool = TensorPool(backbone.engine),
      input = try pool.make([Float](repeating: .nan, count: 2 * backbone.width), [backbone.width, 2])
    let own = try gradient(try CrossEntropy(backbone), backbone, input, [1, 2])
    #expect(own.losses.allSatisfy { $0.isNaN })
  }

  /// No row's result depends on how many threads worked, or on what went before.
  @Test func resultsDependOnTheRowsAlone() throws {
    let path = try folder.model { $0.vocabulary = 4096 }
    let results = try [1, 2, 3].map { threads in
      let backbone = try Backbone(path: path, threads: threads, device: testDevice), pool = TensorPool(backbone.engine)
      let input = try pool.make(rows(backbone, 100), [backbone.width, 100]), loss = try CrossEntropy(backbone)
      if threads == 3 {
        _ = try loss.evaluate(try pool.make(rows(backbone, 5), [backbone.width, 5]), targets: [1, 2, 3, 4, 5])
      }
      return try gradient(loss, backbone, input, (0..<100).map { Int32($0 * 7) }).gradient
    }
    #expect(results[0] == results[1] && results[0] == results[2])
  }

  /// Gemma at the start of training, on rows of text: the flattest row and the sharpest are right like the rest, every
  /// row's shares add up to one, and what is drawn stands for the mass of all that counts for little alone.
  @Test(.enabled(if: DemoModel.path != nil)) func gradientOfGemmasOwnRows() throws {
    let backbone = try Backbone(path: try #require(DemoModel.path), threads: 2, device: testDevice), d = backbone.width
    let text =
      "The baker had 20 loaves. She sold 7 in the morning and twice as many after noon, less 3 that she gave to a school. "
      + "So she sold 7 * 2 = 14 - 3 = 11 loaves after noon. In all that is 7 + 11 = 18 loaves, and 20 - 18 = 2 are left. #### 2"
    let tokens = backbone.tokenizer.tokens(text, beginning: true), count = tokens.count - 1
    #expect(count >= 70)
    let pool = TensorPool(backbone.engine), final = try pool.make(.float32, [d, count])
    try ForwardPass(backbone, rungs: [], maxTokens: 256).run(
      [PackedSample(tokens: Array(tokens.dropLast()), lossRows: Array(0..<count))], taps: [], final: final)
    let targets = Array(tokens.dropFirst())
    var certainty = [Float](repeating: 0, count: count)
    // The scan reads the head where it lies.
    if backbone.engine.isCPU {
      let known = try SurveyedLoss(backbone).rows(final, 0..<count, targets: targets)
      for row in 0..<count {
        let places = known.lists[row], shares = known.probabilities[places]
        #expect(abs(shares.reduce(0.0) { $0 + Double($1) } - 1) < Double(2 * RowSurvey.share))
        #expect(places.count <= RowSurvey.limit(rows: count) + 1)
        certainty[row] = shares.max() ?? 0
      }
    }
    let ordered = certainty.indices.sorted { certainty[$0] < certainty[$1] }
    let own = try gradient(try CrossEntropy(backbone), backbone, final, targets), values = final.read(),
      weights = try weights(backbone)
    for row in [ordered[0], ordered[1], ordered[count / 2], ordered[count - 1]] {
      let expected = reference(backbone, Array(values[(row * d)..<((row + 1) * d)]), [targets[row]], weights)
      let error = relativeError(own.gradient[(row * d)..<((row + 1) * d)], expected.gradient)
      print("row \(row): share of the likeliest \(certainty[row]), relative error \(error)")
      // Of the sharpest row all but a hundredth or two is the target's: that is what the survey rounds and draws from.
      #expect(error < 0.01)
      #expect(abs(Double(own.losses[row]) - expected.losses[0]) < 2e-3)
    }
  }
}
