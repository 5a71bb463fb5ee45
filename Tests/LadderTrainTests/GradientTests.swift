import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderSide
import LadderTrain
import TestModels
import Testing

@Suite(.serialized) struct GradientTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  static func text(_ count: Int, seed: Int) -> [Int32] {
    var random = SeededRandom(seed: 5, seed)
    return (0..<count).map { _ in Int32(random.next() % 250) + 3 }
  }

  private func loss(_ p: Backbone, _ rows: Tensor, _ targets: [Int32], filter: Float?) throws -> (losses: [Float], gradient: [Float]) {
    let pool = TensorPool(p.engine), gradient = try pool.make(.float32, [rows[0], rows[1]])
    return (try CrossEntropy(p, filter: filter).evaluate(rows, targets: targets, gradient: gradient), gradient.read())
  }

  /// A model in F32: a quantised kernel rounds its input row to 8 bits, which differences would see as noise.
  private func exactBackbone(_ architecture: TinyModel.Architecture) throws -> Backbone {
    try Backbone(
      path: try folder.model { model in
        model.architecture = architecture
        model.type = GGML_TYPE_F32
      }, threads: 2, device: "CPU")
  }

  /// Compares every seventh number of a gradient with the central difference of `sum`, which reads `values` from `rows`.
  private func expectDifferences(_ gradient: [Float], of values: [Float], in rows: Tensor, _ sum: () throws -> Float) throws {
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

  /// Against central differences in the head's input. Losses of 20 nats err by 2e-6, over 2h = 0.02 that is 1e-4; the cubic term is h²/6.
  @Test(arguments: [TinyModel.Architecture.qwen2, .gemma2, .granite]) func headGradientAgreesWithDifferences(_ architecture: TinyModel.Architecture) throws {
    let backbone = try exactBackbone(architecture)
    let pool = TensorPool(backbone.engine), targets: [Int32] = [5, 200, 411]
    var random = SeededRandom(seed: 3)
    let values = (0..<(backbone.width * 3)).map { _ in random.normal() }
    let rows = try pool.make(values, [backbone.width, 3])
    let exact = try loss(backbone, rows, targets, filter: nil)
    try expectDifferences(exact.gradient, of: values, in: rows) { try CrossEntropy(backbone).evaluate(rows, targets: targets).reduce(0, +) }
  }

  /// Rows among rivals: their losses are those of the whole softmax divided by the rivals' share of it, rows without rivals keep the
  /// whole vocabulary, and the gradient is that of differences.
  @Test(arguments: [TinyModel.Architecture.qwen2, .gemma2, .granite]) func rivalsShareTheWholeSoftmax(_ architecture: TinyModel.Architecture)
    throws
  {
    let backbone = try exactBackbone(architecture)
    let pool = TensorPool(backbone.engine), d = backbone.width, targets: [Int32] = [5, 200, 411, 8], rivals: [[Int32]] = [[5, 9], [7, 200, 300], [], [8, 9]]
    var random = SeededRandom(seed: 3)
    let values = (0..<(d * 4)).map { _ in random.normal() }
    let rows = try pool.make(values, [d, 4]), gradient = try pool.make(.float32, [d, 4])
    let losses = try CrossEntropy(backbone, filter: nil).evaluate(rows, targets: targets, rivals: rivals, gradient: gradient), slopes = gradient.read()
    _ = try CrossEntropy(backbone).evaluate(
      rows, targets: targets,
      inspect: { row, p in
        let share = rivals[row].isEmpty ? 1 : rivals[row].reduce(0.0) { $0 + Double(p[Int($1)]) }
        #expect(abs(Double(losses[row]) + log(Double(p[Int(targets[row])]) / share)) < 1e-4)
      })
    try expectDifferences(slopes, of: values, in: rows) { try CrossEntropy(backbone).evaluate(rows, targets: targets, rivals: rivals).reduce(0, +) }
  }

  /// The quantised head's gradient is Wᵀ·(p − y) with W dequantised; the kernel's sums differ from these in order alone.
  @Test func quantisedHeadGradientIsThatOfItsDequantisedWeights() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: "CPU")
    let pool = TensorPool(backbone.engine), d = backbone.width, targets: [Int32] = [5, 200, 411]
    var random = SeededRandom(seed: 3)
    let rows = try pool.make((0..<(d * 3)).map { _ in random.normal() }, [d, 3])
    let exact = try loss(backbone, rows, targets, filter: nil)
    let info = try #require(backbone.file.tensors.first { $0.name == "output.weight" })
    let w = try backbone.file.values(of: info)
    var expected = [Double](repeating: 0, count: 3 * d)
    _ = try CrossEntropy(backbone).evaluate(
      rows, targets: targets,
      inspect: { row, p in
        for v in p.indices {
          let g = Double(p[v]) - (v == Int(targets[row]) ? 1 : 0)
          for c in 0..<d { expected[row * d + c] += g * Double(w[v * d + c]) }
        }
      })
    for (a, b) in zip(exact.gradient, expected) { #expect(abs(Double(a) - b) < 1e-2 * max(1, abs(b))) }
  }

  /// What the filter leaves out of a row is at most Σ p_v‖W_v‖ over entries below it.
  @Test func filteredGradientStaysWithinItsBound() throws {
    let backbone = try Backbone(path: try folder.model { $0.vocabulary = 2048 }, threads: 2, device: "CPU")
    let pool = TensorPool(backbone.engine), d = backbone.width, n = 24, filter: Float = 0x1p-9
    var random = SeededRandom(seed: 4)
    // Rows from flat to peaked, so that some rows lose much and some little.
    let values = (0..<n).flatMap { row in (0..<d).map { _ in random.normal() * (0.1 + 0.1 * Float(row)) } }
    let rows = try pool.make(values, [d, n]), targets = (0..<n).map { Int32($0 * 60 + 3) }
    let exact = try loss(backbone, rows, targets, filter: nil), filtered = try loss(backbone, rows, targets, filter: filter)
    #expect(exact.losses == filtered.losses)
    let info = try #require(backbone.file.tensors.first { $0.name == "output.weight" })
    let w = try backbone.file.values(of: info)
    let norms = (0..<backbone.vocabulary).map { v in w[(v * d)..<((v + 1) * d)].reduce(0) { $0 + $1 * $1 }.squareRoot() }
    var bounds = [Float](repeating: 0, count: n), different = false
    _ = try CrossEntropy(backbone).evaluate(
      rows, targets: targets,
      inspect: { row, p in
        bounds[row] = p.indices.reduce(0) { $0 + (p[$1] < filter ? p[$1] * norms[$1] : 0) }
      })
    for row in 0..<n {
      let error = (0..<d).reduce(Float(0)) { sum, c in
        let e = exact.gradient[row * d + c] - filtered.gradient[row * d + c]
        return sum + e * e
      }.squareRoot()
      #expect(error <= bounds[row] + 1e-4)
      if error > 1e-4 { different = true }
    }
    #expect(different, "a filter that leaves nothing out tests nothing")
  }

  /// A whole two-layer ladder: loss through head, up-projection, layers, gates and downsamplers.
  ///
  /// The downsamplers' kernel rounds weights to BF16 and the head's rounds rows to 8 bits, so the differences are coarse:
  /// a wide step, and a tolerance of a few percent of the largest entry.
  @Test(arguments: [SideConfiguration.Downsampler.linear, .lowRank(8), .pool], Climb.all) func ladderAgreesWithDifferences(
    _ downsampler: SideConfiguration.Downsampler, _ climb: Climb
  ) throws {
    let backbone = try Backbone(path: try folder.model { $0.type = GGML_TYPE_F32 }, threads: 2, device: "CPU")
    var configuration = SideConfiguration()
    configuration.rungs = .list([1, 3])
    configuration.reduction = 2
    configuration.headSize = 16
    configuration.downsampler = downsampler
    configuration.precision = .float32
    configuration.tapDropout = 0
    configuration.outputBias = true
    climb.apply(&configuration)
    let geometry = try SideGeometry(configuration, backboneWidth: backbone.width, blocks: backbone.blocks)
    let network = try SideNetwork(configuration, geometry, backbone.engine, trainable: true)
    try network.initialise(seed: 3, backbone: backbone)
    var random = SeededRandom(seed: 8)
    network.parameters["up.weight"].write((0..<network.parameters["up.weight"].count).map { _ in random.normal() * 0.2 })
    network.parameters["layers.1.gate"].write([0.03])

    let samples = [9, 14, 5].enumerated().map { seed, length in
      PackedSample(tokens: Self.text(length, seed: seed), lossRows: Array((length / 3)..<length))
    }
    let rowsCount = samples.reduce(0) { $0 + $1.lossRows.count }
    let targets = (0..<rowsCount).map { Int32(($0 * 37) % 500) }
    let forward = try ForwardPass(backbone, rungs: geometry.rungs, maxTokens: 64)
    let step = try SideStep(network, backbone), head = try CrossEntropy(backbone, filter: nil), pool = TensorPool(backbone.engine)
    func value() throws -> Double {
      try step.read(samples, from: forward)
      return try head.evaluate(try step.forward(), targets: targets).reduce(0.0) { $0 + Double($1) }
    }
    try step.read(samples, from: forward)
    // As in training, which keeps what attention gave.
    let rows = try step.forward(dropout: SeededRandom(seed: 0))
    let gradient = try pool.make(.float32, [backbone.width, rowsCount])
    _ = try head.evaluate(rows, targets: targets, gradient: gradient)
    try step.backward(gradient)

    for specification in network.parameters.specifications {
      let tensor = network.parameters[specification.name]
      let analytic = try #require(network.parameters.gradient(specification.name)).read()
      let largest = analytic.map(abs).max() ?? 0
      #expect(largest > 0, "\(specification.name) gets no gradient")
      // The entries that matter most, where rounding is small beside the slope.
      let chosen = analytic.indices.sorted { abs(analytic[$0]) > abs(analytic[$1]) }.prefix(3)
      let h: Float = specification.name.hasSuffix("gate") && specification.count == 1 ? 0.01 : 0.03
      for i in chosen {
        let numeric = try tensor.centralDifference(i, h: h, value)
        #expect(abs(numeric - analytic[i]) < 0.08 * largest + 0.01, "\(specification.name)[\(i)]: \(analytic[i]) against \(numeric)")
      }
    }
  }

  @Test func unlikelyTargetsHaveFiniteLosses() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: "CPU")
    let pool = TensorPool(backbone.engine)
    var random = SeededRandom(seed: 3)
    let direction = (0..<backbone.width).map { _ in random.normal() }
    let rows = try pool.make(direction.map { $0 * 60 }, [backbone.width, 1])
    let losses = try (0..<40).map { try CrossEntropy(backbone).evaluate(rows, targets: [Int32($0)])[0] }
    #expect(losses.allSatisfy { $0.isFinite })
    #expect((losses.max() ?? 0) > 100)
  }
}
