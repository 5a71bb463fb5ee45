import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
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

  /// A whole two-layer ladder: loss through head, up-projection, layers, gates and downsamplers.
  ///
  /// The downsamplers' kernel rounds weights to BF16 and the head's rounds rows to 8 bits, so the differences are
  /// coarse: a wide step, and a tolerance of a few percent of the largest entry.
  @Test(arguments: [SideConfiguration.Downsampler.linear, .lowRank(8), .pool], Climb.all)
  func ladderAgreesWithDifferences(
    _ downsampler: SideConfiguration.Downsampler, _ climb: Climb
  ) throws {
    let backbone = try Backbone(path: try folder.model { $0.type = GGML_TYPE_F32 }, threads: 2, device: testDevice)
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
    network.parameters["up.weight"].write(
      (0..<network.parameters["up.weight"].count).map { _ in random.normal() * 0.2 })
    let gate = "layers.1.gate"
    if network.parameters.specifications.contains(where: { $0.name == gate }) {
      network.parameters[gate].write([Float](repeating: 0.03, count: network.parameters[gate].count))
    }

    let samples = [9, 14, 5].enumerated().map { seed, length in
      PackedSample(tokens: Self.text(length, seed: seed), lossRows: Array((length / 3)..<length))
    }
    let rowsCount = samples.reduce(0) { $0 + $1.lossRows.count }
    let targets = (0..<rowsCount).map { Int32(($0 * 37) % 500) }
    let forward = try ForwardPass(backbone, rungs: geometry.rungs, maxTokens: 64)
    let step = try SideStep(network, backbone), head = try CrossEntropy(backbone), pool = TensorPool(backbone.engine)
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
        #expect(
          abs(numeric - analytic[i]) < 0.08 * largest + 0.01,
          "\(specification.name)[\(i)]: \(analytic[i]) against \(numeric)")
      }
    }
  }
}
