import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderEval
import LadderInference
import LadderTrain
import TestModels
import Testing

@testable import LadderMethods

@Suite(.serialized) struct LoRATests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  /// Weights and attention in F32, so that what differs is the order of sums, and gemma3's GELU table in F16; logits
  /// are some 4 wide.
  @Test(arguments: Fixture.families) func forwardIsLlamaCppsOwn(_ family: String) throws {
    let f = try Fixture(try folder.f32(family), zero: true),
      difference = Fixture.worst(try f.logits(Fixture.samples), try Fixture.reference(f.backbone, Fixture.samples))
    #expect(difference < tolerance(family == "gemma3" ? 5e-3 : 1e-4, cuda: 5e-3), "\(difference)")
  }

  /// Against central differences in every kind of parameter, in F32 throughout; the head's input is dotted with a fixed
  /// direction.
  @Test(arguments: Fixture.families, [false, true]) func gradientsAgreeWithDifferences(
    _ family: String, _ checkpointing: Bool
  ) throws {
    let f = try Fixture(try folder.smooth(family)) { c in
      c.rounds = false
      c.checkpointing = checkpointing
    }
    let chosen = f.model.parameters.specifications.filter { specification in
      ["blk.0.", "blk.2."].contains(where: specification.name.hasPrefix)
    }
    try f.expectGradientsAgreeWithDifferences(in: chosen, largest: 2, family)
  }

  /// Quantised weights and BF16: kept results against computed ones differ by that rounding, and both point where F32
  /// does.
  @Test func roundedGradientsPointWhereExactOnesDo() throws {
    let path = try folder.model("q8.gguf")
    let gradients = try [(false, false), (true, false), (true, true)].map { rounds, checkpointing in
      let f = try Fixture(path) { c in
        c.rounds = rounds
        c.checkpointing = checkpointing
      }
      let pool = TensorPool(f.backbone.engine), rows = Fixture.samples.reduce(0) { $0 + $1.lossRows.count }
      var random = SeededRandom(seed: 4)
      let gradient = try pool.make(
        (0..<(f.backbone.width * rows)).map { _ in random.normal() }, [f.backbone.width, rows])
      try f.read(Fixture.samples)
      _ = try f.step.forward()
      try f.step.backward(gradient)
      return f.model.parameters.specifications.flatMap { f.model.parameters.gradient($0.name)?.read() ?? [] }
    }
    func cosine(_ a: [Float], _ b: [Float]) -> Double {
      func dot(_ a: [Float], _ b: [Float]) -> Double { zip(a, b).reduce(0) { $0 + Double($1.0) * Double($1.1) } }
      return dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot()
    }
    #expect(cosine(gradients[0], gradients[1]) > 0.999)
    #expect(cosine(gradients[0], gradients[2]) > 0.999)
    #expect(gradients[1] != gradients[0])
  }

  /// What llama.cpp computes with the written adapter is what was trained: logits within 1e-2.
  @Test(arguments: Fixture.families) func llamaCppAppliesTheWrittenAdapter(_ family: String) throws {
    let path = try folder.f32(family), f = try Fixture(path)
    try AdapterFiles(f.model).write(to: folder.path, modelName: "tiny")
    let own = try f.logits(Fixture.samples), plain = try Fixture(path, zero: true).logits(Fixture.samples)
    let theirs = try Fixture.reference(f.backbone, Fixture.samples, adapter: folder.file(AdapterFiles.gguf))
    #expect(Fixture.worst(own, theirs) < 1e-2)
    #expect(Fixture.worst(own, plain) > 0.1, "an adapter that changes nothing tests nothing")
  }

  @Test func peftsFilesHoldTheSameNumbers() throws {
    let f = try Fixture(try folder.f32("llama")) { $0.targets = [.q, .down] }
    try AdapterFiles(f.model).write(to: folder.path, modelName: "tiny")
    let file = try Safetensors(path: folder.file(AdapterFiles.peftWeights))
    #expect(file.tensors.count == 4 * f.model.shape.blocks)
    let a = try #require(file.tensors["base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"])
    #expect(try a.shape == [4, 64] && a.values() == f.model.parameters["blk.1.attn_q.lora_a"].read())
    let down = try #require(file.tensors["base_model.model.model.layers.2.mlp.down_proj.lora_B.weight"])
    #expect(try down.shape == [64, 4] && down.values() == f.model.parameters["blk.2.ffn_down.lora_b"].read())
    // Row 1 of a head in Hugging Face's order is its second pair's first channel: row 2 in llama.cpp's.
    let b = try #require(file.tensors["base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"]),
      own = f.model.parameters["blk.1.attn_q.lora_b"].read()
    #expect(try Array(b.values()[4..<8]) == Array(own[8..<12]))
    #expect(try Array(b.values()[32..<36]) == Array(own[4..<8]))
    let json = try #require(
      try JSONSerialization.jsonObject(
        with: Data(contentsOf: URL(fileURLWithPath: folder.file(AdapterFiles.peftConfiguration)))) as? [String: Any])
    #expect(json["r"] as? Int == 4 && json["target_modules"] as? [String] == ["q_proj", "down_proj"])
  }

  private static var configuration: TrainingConfiguration {
    var c = TrainingConfiguration()
    var lora = LoRAConfiguration()
    lora.rank = 4
    lora.dropout = 0.1
    c.method = .lora(lora)
    c.batchSize = 8
    c.epochs = 2
    c.learningRate = 2e-3
    c.checkpointEvery = 3
    return c
  }

  private static let trainSamples = (0..<48).map { i in
    Sample(
      prompt: "question \(i % 7) of kind \(i % 2 == 0 ? "even" : "odd"):",
      completion: i % 2 == 0 ? " yes" : " no, never")
  }

  /// Trained, stopped and resumed, evaluated and generated from through llama.cpp.
  /// A model of which only the head and the tokenizer are loaded.
  private static func headOnly(_ path: String) throws -> Backbone {
    let head = try HeadDescription(of: GGUFFile(path: path))
    return try Backbone(path: path, threads: 2, device: testDevice, head: head)
  }

  /// Trains until the fifth step.
  private static func stopped(_ backbone: Backbone, into run: RunDirectory) async -> LadderError? {
    let task = Task.detached {
      try Trainer(backbone, configuration).train(trainSamples, into: run) {
        if case .step(let step) = $0, step.step == 5 { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    do { _ = try await task.value } catch { return error as? LadderError }
    return nil
  }

  @Test func trainsResumesExactlyAndServes() async throws {
    let path = try folder.model("q8.gguf") { $0.architecture = .gemma3 }
    let whole = RunDirectory(folder.file("whole")), cut = RunDirectory(folder.file("cut"))
    var losses: [Float] = []
    let first = try Self.headOnly(path)
    try Trainer(first, Self.configuration).train(Self.trainSamples, into: whole) {
      if case .step(let s) = $0 { losses.append(s.loss) }
    }
    #expect(!first.holdsBlocks, "llama.cpp's copy of the blocks is not needed to train")
    let start = losses.prefix(3).reduce(Float(0), +), end = losses.suffix(3).reduce(Float(0), +)
    #expect(end < 0.7 * start)
    let second = try Self.headOnly(path)
    #expect(await Self.stopped(second, into: cut)?.kind == .interrupted)
    try Trainer(try Self.headOnly(path), Self.configuration).train(Self.trainSamples, into: cut, resume: true)
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: whole.weightsPath))
        == Data(contentsOf: URL(fileURLWithPath: cut.weightsPath)))

    let model = try LadderModel(try Backbone(path: path, threads: 2, device: testDevice), adapter: whole),
      base = try LadderModel(model.backbone)
    let tuned = try model.evaluate(Self.trainSamples).loss, before = try base.evaluate(Self.trainSamples).loss
    #expect(tuned < 0.7 * before)
    #expect(try model.generate("question 2 of kind even:").tokens > 0)
    #expect(try whole.manifest().method == "qlora")
  }

  @Test func unknownFamiliesAreNamed() throws {
    let path = try folder.model("gemma2.gguf") { $0.architecture = .gemma2 }
    #expect { try BlockShape(try GGUFFile(path: path)) } throws: { error in
      let message = (error as? LadderError)?.message ?? ""
      return message.contains("gemma2") && message.contains("llama, qwen2, qwen3, qwen3moe, gemma3")
    }
  }

  /// Gemma 3 270M itself, its weights quantised: the kernels round activations to 8 bits, which makes 0.1 to 0.7 nats
  /// of a last-bit difference in some token, and nothing of the mean. `LADDER_TEST_F32_MODEL` names one of real size
  /// that rounds nothing.
  @Test(.enabled(if: DemoModel.path != nil)) func forwardOfGemmaIsLlamaCppsOwn() throws {
    let text =
      "The quick brown fox jumps over the lazy dog. Then it sat down by the river, "
      + "and the dog slept on as if nothing had happened at all."
    for (path, single, mean) in [
      (DemoModel.path, 0.7, 0.05), (modelInF32, 0.01, 0.002),
    ] {
      guard let path else { continue }
      let f = try Fixture(path, zero: true), v = f.backbone.vocabulary
      let tokens = f.backbone.tokenizer.tokens(text, beginning: true), rows = Array(0..<(tokens.count - 1)),
        targets = rows.map { tokens[$0 + 1] }
      let logits = try f.logits([PackedSample(tokens: tokens, lossRows: rows)])
      let expected = try ReferenceLogits(f.backbone, maxTokens: 64).logProbabilities(
        tokens, rows: rows, targets: targets)
      var differences: [Double] = []
      for (row, target) in zip(rows, targets) {
        let own = logits[(row * v)..<((row + 1) * v)], most = Double(own.max() ?? 0)
        let sum = own.reduce(0.0) { $0 + exp(Double($1) - most) }
        differences.append(Double(own[own.startIndex + Int(target)]) - most - log(sum) - expected[row])
      }
      let largest = differences.map(abs).max() ?? 1, average = differences.reduce(0, +) / Double(rows.count)
      #expect(largest < single && abs(average) < mean, "\(path): largest \(largest), mean \(average)")
    }
  }
}
