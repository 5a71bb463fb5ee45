import CLlama
import Foundation
import Ladder
import LadderBackbone
import LadderCompute
import LadderMethods
import LadderTrain
import TestModels
import Testing

@testable import LadderData
@testable import LadderEval

/// Against llama.cpp's own logits, computed the ordinary way. `LADDER_TEST_SAMPLES` names a JSONL file to take samples
/// from instead of texts made of the demo's messages.
@Suite(.serialized) struct ParityTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  static let samples: [Sample] = {
    if let path = ProcessInfo.processInfo.environment["LADDER_TEST_SAMPLES"] {
      return ((try? Sample.load(path)) ?? []).prefix(50).map { Sample($0.form) }
    }
    var root = URL(fileURLWithPath: #filePath)
    for _ in 0..<3 { root.deleteLastPathComponent() }
    let messages = ((try? Sample.load(root.appendingPathComponent("Examples/inbox/train.jsonl").path)) ?? []).map {
      sample in
      if case .completion(let prompt, let completion) = sample.form { (prompt, completion) } else { ("", "") }
    }
    // Five solved messages and a sixth to solve: 100 tokens and more, so that each sample has the engine to itself.
    return (0..<50).map { i in
      let shots = (0..<5).map { messages[(i * 6 + $0) % messages.count] }, last = messages[(i * 6 + 5) % messages.count]
      return Sample(prompt: shots.map { $0.0 + $0.1 + "\n\n" }.joined() + last.0, completion: last.1)
    }
  }()

  private func network(_ backbone: Backbone, _ change: (inout SideConfiguration) -> Void = { _ in }) throws
    -> SideNetwork
  {
    var configuration = SideConfiguration()
    change(&configuration)
    let geometry = try SideGeometry(configuration, backboneWidth: backbone.width, blocks: backbone.blocks)
    let network = try SideNetwork(configuration, geometry, backbone.engine, trainable: true)
    try network.initialise(seed: 1, backbone: backbone)
    return network
  }

  /// A zero-initialised ladder is the backbone itself: per-token log-likelihoods within 1e-3 of llama.cpp's.
  ///
  /// Packed calls are compared with one call a sample, so the kernels sum in other orders: that is the tolerance.
  private func checkZeroInitialised(_ path: String, limit: Double) throws {
    let backbone = try Backbone(path: path, threads: 2, device: testDevice)
    let encoded = try SampleEncoder(backbone, maxLength: 1024).encode(Self.samples, name: "samples").samples
    #expect(encoded.count == 50)
    let losses = try LadderModel(SidePredictor(try network(backbone), backbone)).losses(encoded, EvaluationOptions())
    let reference = try ReferenceLogits(backbone, maxTokens: (encoded.map(\.tokens.count).max() ?? 0) + 1)
    var worst = 0.0
    for (e, own) in zip(encoded, losses) {
      let expected = try reference.logProbabilities(e.tokens, rows: e.lossRows, targets: e.targets)
      for (a, b) in zip(own, expected) { worst = max(worst, abs(Double(a) + b)) }
    }
    print("worst difference of a token's log-likelihood: \(worst)")
    #expect(worst < limit)
  }

  /// An accelerator multiplies a quantised head by other kernels than llama.cpp takes for the same rows there, some of
  /// which round the rows to 8 bits, as the processor does where a head is too large for one buffer of the device.
  @Test(.enabled(if: DemoModel.path != nil)) func zeroInitialisedLadderEqualsGemma() throws {
    try checkZeroInitialised(try #require(DemoModel.path), limit: tolerance(1e-3, cuda: 0.2, vulkan: 0.2))
  }

  /// `LADDER_TEST_F32_MODEL` names a model of real size whose weights are in F32: nothing is rounded to 8 bits.
  @Test(.enabled(if: modelInF32 != nil)) func zeroInitialisedLadderEqualsAModelInF32() throws {
    try checkZeroInitialised(try #require(modelInF32), limit: tolerance(1e-3, cuda: 0.2))
  }

  @Test func zeroInitialisedLadderEqualsARandomQwen2() throws {
    let path = try folder.model { model in
      model.blocks = 6
      model.width = 128
      model.feedForward = 256
      model.heads = 4
    }
    try checkZeroInitialised(path, limit: tolerance(1e-3, cuda: 0.2))
  }

  /// The largest difference of a next token's probability between token-by-token decoding, with both caches, and the
  /// whole-sequence forward.
  private func decodingDifference(_ backbone: Backbone, _ network: SideNetwork?, exactAttention: Bool) throws -> Float {
    let samples = try SampleEncoder(backbone, maxLength: 512).encode(Array(Self.samples.prefix(2)), name: "s").samples
    let forward = try ForwardPass(
      backbone, rungs: network?.geometry.rungs ?? [], maxTokens: 512, exactAttention: exactAttention)
    let step = try network.map { try SideStep($0, backbone) }, base = BackboneRows(forward, backbone),
      graph = try Graph(backbone.engine)
    let decoder = try network.map { try TextDecoder($0, forward) } ?? TextDecoder(forward)
    let v = backbone.vocabulary
    var worst: Float = 0
    for sample in samples {
      let n = min(160, sample.tokens.count), first = n - 24, tokens = Array(sample.tokens[..<n])
      let sample = PackedSample(tokens: tokens, lossRows: Array(first..<n))
      try step?.read([sample], from: forward)
      let rows = try step?.forward() ?? base.rows([sample])
      graph.reset()
      let whole = graph.keep(graph.softmaxInPlace(backbone.head.logits(graph, rows)))
      try graph.compute()
      let expected = whole.read()
      decoder.reset()
      for (index, part) in ([0...first] + ((first + 1)..<n).map { $0...$0 }).enumerated() {
        let row = try decoder.extend(Array(tokens[part]))
        graph.reset()
        let softmax = graph.keep(graph.softmaxInPlace(backbone.head.logits(graph, row)))
        try graph.compute()
        let own = softmax.read()
        for (a, b) in zip(own, expected[(index * v)...]) { worst = max(worst, abs(a - b)) }
      }
    }
    return worst
  }

  private func trained(_ backbone: Backbone, _ change: (inout TrainingConfiguration) -> Void = { _ in }) throws
    -> SideNetwork
  {
    var settings = TrainingConfiguration()
    settings.steps = 4
    settings.batchSize = 4
    settings.learningRate = 1e-3
    change(&settings)
    let run = RunDirectory(folder.file("run"))
    try Trainer(backbone, settings).train(Self.samples, into: run)
    guard let network = (try run.predictor(backbone) as? SidePredictor)?.network else {
      throw LadderError(.engine, "no side network")
    }
    return network
  }

  /// With weights and attention in F32 the engine's own batched and stepwise results agree, so a trained ladder's must:
  /// within 1e-3. (With its fused attention kernel the engine's own differ by 3e-3 to 8e-3 even then.)
  /// `LADDER_TEST_F32_MODEL` names a model of real size to check as well.
  @Test func decodingATrainedLadderEqualsTheWholeSequence() throws {
    let tiny = try folder.model { model in
      model.type = GGML_TYPE_F32
      model.blocks = 6
      model.width = 128
    }
    for path in [tiny, modelInF32].compactMap({ $0 }) {
      let backbone = try Backbone(path: path, threads: 2, device: testDevice), network = try trained(backbone)
      let ladder = try decodingDifference(backbone, network, exactAttention: true),
        base = try decodingDifference(backbone, nil, exactAttention: true)
      print("worst difference of a probability: ladder \(ladder), base \(base)")
      #expect(ladder < 1e-3)
      try FileManager.default.removeItem(atPath: folder.file("run"))
    }
  }

  /// A quantised model rounds its activations to 8 bits, so its own batched and stepwise results differ by whole
  /// percents; the ladder on top adds no more than half as much again.
  @Test(.enabled(if: DemoModel.path != nil)) func decodingATrainedLadderStaysAsCloseAsGemmaItself() throws {
    let backbone = try Backbone(path: try #require(DemoModel.path), threads: 2, device: testDevice),
      network = try trained(backbone)
    let ladder = try decodingDifference(backbone, network, exactAttention: false),
      base = try decodingDifference(backbone, nil, exactAttention: false)
    print("worst difference of a probability: ladder \(ladder), base \(base)")
    #expect(ladder < 1.5 * base + 1e-3)
  }
}
