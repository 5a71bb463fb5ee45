import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
import TestModels
import Testing

/// A side network on a tiny model, with every parameter away from its start.
struct Fixture {
  let backbone: Backbone
  let network: SideNetwork
  let forward: ForwardPass

  init(_ path: String, _ change: (inout SideConfiguration) -> Void = { _ in }, zeroUp: Bool = false) throws {
    backbone = try Backbone(path: path, threads: 2, device: testDevice)
    var configuration = SideConfiguration()
    configuration.rungs = .list([1, 3])
    configuration.reduction = 2
    configuration.headSize = 16
    change(&configuration)
    let geometry = try SideGeometry(configuration, backboneWidth: backbone.width, blocks: backbone.blocks)
    network = try SideNetwork(configuration, geometry, backbone.engine, trainable: true)
    try network.initialise(seed: 7, backbone: backbone)
    forward = try ForwardPass(backbone, rungs: geometry.rungs, maxTokens: 64)
    try network.setStatistics(
      try TapStatistics.measure([PackedSample(tokens: Fixture.text(40, seed: 9), lossRows: [39])], forward, backbone))
    if !zeroUp {
      for (name, deviation) in [("up.weight", Float(0.1)), ("up.bias", 0.1), ("layers.1.gate", 0.05)]
      where network.parameters.specifications.contains(where: { $0.name == name }) {
        var random = SeededRandom(seed: 11)
        network.parameters[name].write((0..<network.parameters[name].count).map { _ in random.normal() * deviation })
      }
    }
  }

  static func text(_ count: Int, seed: Int) -> [Int32] {
    var random = SeededRandom(seed: 5, seed)
    return (0..<count).map { _ in Int32(random.next() % 250) + 3 }
  }
}

@Suite(.serialized) struct LadderTests {
  let folder: TemporaryFolder
  let path: String
  init() throws {
    folder = try TemporaryFolder()
    path = try folder.model()
  }

  private let samples = [12, 5, 30].enumerated().map { seed, length in
    PackedSample(tokens: Fixture.text(length, seed: seed), lossRows: Array((length / 2)..<length))
  }

  @Test func zeroInitialisedLadderLeavesTheFinalRowsAsTheyAre() throws {
    let f = try Fixture(path, zeroUp: true)
    let step = try SideStep(f.network, f.backbone), base = BackboneRows(f.forward, f.backbone)
    try step.read(samples, from: f.forward)
    let corrected = try step.forward().read()
    #expect(corrected == (try base.rows(samples)).read())
  }

  /// With free layers: which rungs, how deep, at how many parameters; and what does not fit is refused by its name.
  @Test func freeLayersReadNothing() throws {
    func geometry(_ change: (inout SideConfiguration) -> Void) throws -> (SideGeometry, parameters: Int) {
      var c = SideConfiguration()
      change(&c)
      let geometry = try SideGeometry(c, backboneWidth: 640, blocks: 18)
      return (geometry, SideNetwork.specifications(c, geometry).numbers)
    }
    for (depth, free) in [(1, 1), (2, 2), (3, 3), (3, 6), (4, 1), (2, 0)] {
      let (deep, count) = try geometry {
        $0.depth = depth
        $0.free = free
      }
      #expect(deep.rungs == Array((18 - depth)..<18) && deep.layers == depth + free)
      #expect((0..<deep.layers).map(deep.rung(ofLayer:)) == (0..<depth).map { $0 } + Array(repeating: nil, count: free))
      let (_, plain) = try geometry { $0.rungs = .list(deep.rungs) }
      #expect(abs(count - plain) * 100 <= plain, "\(count) parameters against \(plain)")
    }
    #expect(try geometry { $0.depth = 3 }.0.layers == 6)
    #expect(
      try geometry { c in
        c.depth = 2
        c.rungs = .list([6, 9])
      }.0.rungs == [6, 9])
    let refused: [(String, (inout SideConfiguration) -> Void)] = [
      ("`depth`", { $0.depth = 0 }), ("`depth`", { $0.depth = 18 }), ("`free`", { $0.free = 2 }),
      (
        "`passes`",
        { c in
          c.depth = 2
          c.passes = 2
        }
      ),
      (
        "`rungs`",
        { c in
          c.depth = 2
          c.rungs = .list([4, 5, 6])
        }
      ),
      (
        "`free`",
        { c in
          c.depth = 2
          c.free = -1
        }
      ),
    ]
    for (name, change) in refused {
      let error = #expect(throws: LadderError.self) { try geometry(change) }
      #expect(error?.message.contains(name) == true, "\(error?.message ?? "")")
    }
  }

  @Test func orthogonalMatricesAre() {
    var random = SeededRandom(seed: 3)
    for (columns, rows) in [(24, 9), (9, 24), (16, 16)] {
      let values = SideNetwork.orthogonal(columns: columns, rows: rows, &random), count = min(rows, columns)
      func entry(_ vector: Int, _ i: Int) -> Float {
        rows <= columns ? values[vector * columns + i] : values[i * columns + vector]
      }
      for a in 0..<count {
        for b in 0..<count {
          let product = (0..<max(rows, columns)).reduce(Float(0)) { $0 + entry(a, $1) * entry(b, $1) }
          #expect(abs(product - (a == b ? 1 : 0)) < 1e-5)
        }
      }
    }
  }

  /// Whole-sequence forward and token-by-token decoding differ by the order of attention's sums and by the engine's KV
  /// cache in F16, which in a quantised model rounds some number to another byte; on an accelerator they are other
  /// kernels, and a difference in the last place of a tap, which is stored in BF16, is one of its 256ths.
  @Test(arguments: [SideConfiguration.Downsampler.linear, .lowRank(8), .pool], Climb.all)
  func decodingEqualsTheWholeSequence(
    _ downsampler: SideConfiguration.Downsampler, _ climb: Climb
  ) throws {
    try decodes(
      try Fixture(path) { c in
        c.downsampler = downsampler
        c.outputBias = true
        climb.apply(&c)
      })
  }

  /// The embedding and the last block are there for every token of a text, whether it comes whole or by parts.
  @Test func decodingReadsTheEmbeddingAndTheLastBlock() throws {
    try decodes(try Fixture(path) { $0.rungs = .list([0, 2, 4]) })
  }

  /// Of the deepest network there is room for a text at least, of a usual one for many.
  @Test(arguments: [(1, 64...), (30, 1...)]) func textsShareAStep(_ passes: Int, _ texts: PartialRangeFrom<Int>) throws
  {
    let f = try Fixture(path) { c in
      c.rungs = .list([1, 2, 3, 4])
      c.passes = passes
      c.reduction = 1
      c.headSize = 2
    }
    let memory = GraphMemory(f.backbone.engine)
    let correction = try #require(try SidePredictor(f.network, f.backbone).correction(memory))
    #expect(texts.contains(correction.textsAtOnce), "\(correction.textsAtOnce)")
  }

  /// Layers that mix many rungs take more of a step's graph: what is said to fit does.
  @Test func textsThatShareAStepFitItsGraph() throws {
    let path = try folder.model("deep.gguf") { $0.blocks = 24 }
    let f = try Fixture(path) { c in
      c.rungs = .list(Array(1..<24))
      c.cross = .mixture
      c.passes = 3
    }
    let correction = try #require(try SidePredictor(f.network, f.backbone).correction(GraphMemory(f.backbone.engine)))
    let texts = correction.textsAtOnce
    #expect(texts >= 1)
    let forward = try ForwardPass(f.backbone, rungs: f.network.geometry.rungs, maxTokens: 256, texts: texts)
    let slots = min(texts, forward.maxSequences),
      decoder = try TextDecoder(forward, slots: slots, correction: correction)
    for slot in 0..<slots { _ = try decoder.extend([3, 4], slot: slot) }
    #expect(try decoder.extend((0..<slots).map { ($0, 5) })[1] == slots)
  }

  private func decodes(_ f: Fixture) throws {
    let text = Fixture.text(30, seed: 3), step = try SideStep(f.network, f.backbone)
    try step.read([PackedSample(tokens: text, lossRows: Array(0..<30))], from: f.forward)
    let rows = try step.forward()
    let graph = try Graph(f.backbone.engine)
    let whole = graph.keep(graph.softmaxInPlace(f.backbone.head.logits(graph, rows)))
    try graph.compute()
    let expected = whole.read(), v = f.backbone.vocabulary
    let decoder = try TextDecoder(f.network, f.forward)
    for part in [Array(0..<11)] + (11..<30).map({ [$0] }) {
      let row = try decoder.extend(part.map { text[$0] })
      graph.reset()
      let softmax = graph.keep(graph.softmaxInPlace(f.backbone.head.logits(graph, row)))
      try graph.compute()
      let own = softmax.read(), last = part[part.count - 1]
      for i in 0..<v {
        #expect(abs(own[i] - expected[last * v + i]) < tolerance(testDevice == "CPU" ? 5e-3 : 1e-2, cuda: 0.1))
      }
    }
  }

  /// Standardised over answers, the rows that carry loss have mean 0 and deviation 1 in each channel; others need not.
  @Test func answersAreStandardisedOverTheirOwnRows() throws {
    let f = try Fixture(path), d = f.backbone.width, pool = TensorPool(f.backbone.engine),
      graph = try Graph(f.backbone.engine)
    // More rows than a pass takes at once, and more samples than a group.
    let samples = (0..<90).map { i in
      PackedSample(tokens: Fixture.text(10 + i % 13, seed: i), lossRows: i % 3 == 0 ? [9 + i % 13] : Array(2..<10))
    }
    try f.network.setStatistics(try TapStatistics.measure(samples, f.forward, f.backbone, rows: .answers))
    var values = Array(repeating: [Float](), count: d)
    for sample in samples {
      try pool.reset()
      let taps = try f.forward.rungs.map { _ in try pool.make(.bfloat16, [d, sample.tokens.count]) }
      try f.forward.run([sample], taps: taps, final: nil)
      graph.reset()
      let z = graph.keep(f.network.standardised(graph, taps[1], rung: 1, mask: nil))
      try graph.compute()
      let all = z.read()
      for row in sample.lossRows { for channel in 0..<d { values[channel].append(all[row * d + channel]) } }
    }
    for channel in values {
      let n = Float(channel.count), mean = channel.reduce(0, +) / n,
        variance = channel.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n
      #expect(abs(mean) < 0.02 && abs(variance.squareRoot() - 1) < 0.02)
    }
  }

  /// One row has no spread: its deviations are those of BF16's rounding, not zero.
  @Test func deviationsOfOneAnswerAreNotZero() throws {
    let f = try Fixture(path)
    let one = try TapStatistics.measure(
      [PackedSample(tokens: Fixture.text(9, seed: 1), lossRows: [8])], f.forward, f.backbone, rows: .answers)
    for (means, deviations) in zip(one.means, one.deviations) {
      for (mean, deviation) in zip(means, deviations) { #expect(abs(deviation - max(1e-3, abs(mean) / 256)) < 1e-6) }
    }
  }

  @Test func packingKeepsSamplesApart() throws {
    let f = try Fixture(path), step = try SideStep(f.network, f.backbone)
    try step.read(samples, from: f.forward)
    let together = try step.forward().read()
    var alone: [Float] = []
    for sample in samples {
      try step.read([sample], from: f.forward)
      alone += try step.forward().read()
    }
    for (a, b) in zip(together, alone) { #expect(abs(a - b) < tolerance(1e-2, cuda: 0.1)) }
  }

  @Test func dropoutFollowsItsSeed() throws {
    let f = try Fixture(path), step = try SideStep(f.network, f.backbone)
    func run(_ seed: UInt64) throws -> [Float] {
      try step.read(samples, from: f.forward)
      return try step.forward(dropout: SeededRandom(seed: seed)).read()
    }
    let one = try run(1), again = try run(1), other = try run(2)
    #expect(one == again)
    #expect(one != other)
  }

  /// Where nothing is trained, matrices are held as they enter products alone.
  @Test(arguments: Climb.all) func whatIsNotTrainedGivesTheSameRows(_ climb: Climb) throws {
    let f = try Fixture(path, climb.apply), file = folder.file("w.safetensors")
    try f.network.export().write(file)
    let other = try SideNetwork(f.network.configuration, f.network.geometry, f.backbone.engine, trainable: false)
    try other.restore(try Safetensors(path: file), from: file)
    let rows = try [f.network, other].map { network in
      let step = try SideStep(network, f.backbone)
      try step.read(samples, from: f.forward)
      return try step.forward().read()
    }
    #expect(rows[0] == rows[1])
    let types = other.parameters.groups.map(\.values.isBFloat16)
    #expect(types.contains(true) == (f.network.configuration.precision != .float32))
  }

  /// Micro-batches of one layout run the first one's graphs; results and gradients are those of graphs built for each
  /// alone.
  @Test(arguments: Climb.all) func graphsAreBuiltOnceForEachLayout(_ climb: Climb) throws {
    let f = try Fixture(path) { climb.apply(&$0) }, pool = TensorPool(f.backbone.engine), d = f.backbone.width
    let kept = try SideStep(f.network, f.backbone)
    func batch(_ i: Int, _ lengths: [Int]) -> [PackedSample] {
      lengths.enumerated().map {
        PackedSample(tokens: Fixture.text($1, seed: 10 * i + $0), lossRows: Array(($1 / 2)..<$1))
      }
    }
    func run(_ step: SideStep, _ samples: [PackedSample], _ i: Int, trains: Bool = true) throws -> [Float] {
      f.network.parameters.zeroGradients()
      try step.read(samples, from: f.forward)
      let rows = try step.forward(dropout: trains ? SeededRandom(seed: UInt64(i)) : nil)
      let result = rows.read(), gradient = try pool.make(.float32, [d, rows[1]])
      gradient.write((0..<gradient.count).map { sin(Float($0 + i)) })
      try step.backward(gradient)
      return f.network.parameters.specifications.reduce(into: result) { all, p in
        if let own = f.network.parameters.gradient(p.name) { all += own.read() }
      }
    }
    var built: [Int] = []
    // The second pass may build anew what the growing memory of the first displaced; each gradient lies elsewhere.
    for (i, lengths) in [[30, 12], [30, 12], [30, 12], [30, 12], [12, 30], [30, 12]].enumerated() {
      let samples = batch(i, lengths), trains = i != 3
      let alone = try run(SideStep(f.network, f.backbone), samples, i, trains: trains)
      #expect(try run(kept, samples, i, trains: trains) == alone)
      built.append(kept.graphsBuilt)
    }
    // Accelerators' graphs are built anew.
    if f.backbone.engine.isCPU { #expect(built[2] - built[1] == 1, "only the graph that reads the displaced gradient") }
    #expect(built[3] - built[2] > 1 && built[4] - built[3] > 1 && built[5] - built[4] > 1)
  }

  @Test func standardisedTapsHaveMeanZeroAndDeviationOne() throws {
    let f = try Fixture(path), text = Fixture.text(40, seed: 9)
    let pool = TensorPool(f.backbone.engine), graph = try Graph(f.backbone.engine)
    let taps = try [1, 3].map { _ in try pool.make(.bfloat16, [f.backbone.width, 40]) }
    try f.forward.run([PackedSample(tokens: text, lossRows: [39])], taps: taps, final: nil)
    let z = graph.keep(f.network.standardised(graph, taps[1], rung: 1, mask: nil))
    try graph.compute()
    let values = z.read()
    for channel in 0..<f.backbone.width {
      let column = (0..<40).map { Double(values[$0 * f.backbone.width + channel]) }
      let mean = column.reduce(0, +) / 40, variance = column.reduce(0) { $0 + $1 * $1 } / 40 - mean * mean
      #expect(abs(mean) < 1e-3 && abs(variance - 1) < 1e-2)
    }
  }

  @Test func backboneInitialisationCopiesWeights() throws {
    let f = try Fixture(path) { $0.initialisation = .backbone }
    let q = f.network.parameters["layers.0.q"].read()
    let info = try #require(f.backbone.file.tensors.first { $0.name == "blk.0.attn_q.weight" })
    let source = Set(try f.backbone.file.values(of: info))
    #expect(q.allSatisfy(source.contains))
    #expect(Set(q).count > 100)
  }

  @Test func weightsSurviveAFile() throws {
    let f = try Fixture(path), file = folder.file("w.safetensors")
    try f.network.export().write(file)
    let other = try SideNetwork(f.network.configuration, f.network.geometry, f.backbone.engine, trainable: true)
    try other.restore(try Safetensors(path: file), from: file)
    for specification in f.network.parameters.specifications {
      #expect(other.parameters[specification.name].read() == f.network.parameters[specification.name].read())
    }
    #expect(other.statistics == f.network.statistics)
    let bytes = try Data(contentsOf: URL(fileURLWithPath: file))
    try bytes.prefix(bytes.count / 2).write(to: URL(fileURLWithPath: file))
    #expect(throws: LadderError.self) { try Safetensors(path: file) }
  }
}

@Suite struct GeometryTests {
  @Test func rungsAndWidths() throws {
    var c = SideConfiguration()
    func geometry(_ d: Int, _ blocks: Int) throws -> SideGeometry {
      try SideGeometry(c, backboneWidth: d, blocks: blocks)
    }
    #expect(try geometry(640, 18).rungs == [7, 9, 11])
    #expect(try geometry(640, 18).width == 256)
    #expect(try geometry(3584, 28).width == 448)
    c.rungs = .all
    #expect(try geometry(640, 18).rungs == Array(1..<18))
    c.rungs = .every(4)
    #expect(try geometry(640, 18).rungs == [4, 8, 12, 16])
    c.reduction = 8
    #expect(try geometry(640, 18).width == 64)
    c.rungs = .list([19])
    #expect(throws: LadderError.self) { try geometry(640, 18) }
    c.rungs = .every(0)
    #expect(throws: LadderError.self) { try geometry(640, 18) }
    c.rungs = .middle
    c.downsampler = .pool
    #expect(try geometry(640, 18).width == 80)
  }

  @Test func optionTexts() {
    #expect(SideConfiguration.Rungs("all") == .all)
    #expect(SideConfiguration.Rungs("4") == .every(4))
    #expect(SideConfiguration.Rungs("3,5, 7") == .list([3, 5, 7]))
    #expect(SideConfiguration.Rungs("3,x") == nil)
    #expect(SideConfiguration.Downsampler("lowrank:4") == .lowRank(4))
    #expect(SideConfiguration.Downsampler("lowrank:0") == nil)
  }

  /// Scores cost time by the head: heads keep their size, and a width gets the nearest number of them.
  @Test func headsKeepTheirSizeAtAnyWidth() throws {
    var c = SideConfiguration()
    c.rungs = .all
    for (width, heads) in [(256, 4), (224, 3), (192, 3), (160, 2), (96, 1), (64, 1)] {
      c.reduction = 3584 / Double(width)
      let g = try SideGeometry(c, backboneWidth: 3584, blocks: 28)
      #expect(g.width == width && g.headSize == 64 && g.heads == heads && g.attentionWidth == 64 * heads)
    }
    c.reduction = 64
    let narrow = try SideGeometry(c, backboneWidth: 3072, blocks: 28)
    #expect(narrow.width == 32 && narrow.headSize == 32 && narrow.heads == 1)
  }
}
