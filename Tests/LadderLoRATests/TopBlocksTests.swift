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

/// Additions in some blocks alone, which begin at a tap. The tiny models have four blocks.
@Suite(.serialized) struct TopBlocksTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  typealias Blocks = LoRAConfiguration.Blocks
  static let choices: [Blocks] = [.last(2), .last(1), .range(2, 3)]

  /// With nothing added it is the model itself; with an addition what llama.cpp gives with the written adapter.
  @Test(arguments: Fixture.families, choices) func forwardIsLlamaCppsOwn(_ family: String, _ blocks: Blocks) throws {
    let path = try folder.f32(family), plain = try Fixture(path, { $0.blocks = blocks }, zero: true)
    let difference = Fixture.worst(
      try plain.logits(Fixture.samples), try Fixture.reference(plain.backbone, Fixture.samples))
    // What lies below is llama.cpp's own.
    #expect(difference < tolerance(family == "gemma3" ? 5e-3 : 1e-4, cuda: 3e-2, vulkan: 1e-2), "\(difference)")

    let f = try Fixture(path, { $0.blocks = blocks })
    try AdapterFiles(f.model).write(to: folder.path, modelName: "tiny")
    let own = try f.logits(Fixture.samples)
    let theirs = try Fixture.reference(f.backbone, Fixture.samples, adapter: folder.file(AdapterFiles.gguf))
    #expect(Fixture.worst(own, theirs) < tolerance(1e-2, cuda: 1e-2, vulkan: 4e-2))
    #expect(
      Fixture.worst(own, try plain.logits(Fixture.samples)) > 0.05, "an adapter that changes nothing tests nothing")
  }

  /// Against central differences, in F32 throughout, and through blocks without additions.
  @Test(arguments: Fixture.families, choices) func gradientsAgreeWithDifferences(_ family: String, _ blocks: Blocks)
    throws
  {
    let f = try Fixture(try folder.smooth(family)) { c in
      c.rounds = false
      c.blocks = blocks
    }
    let adapted = try f.model.configuration.adapted(of: f.model.shape.blocks), all = f.model.parameters.specifications
    #expect(all.allSatisfy { specification in adapted.contains { specification.name.hasPrefix("blk.\($0).") } })
    try f.expectGradientsAgreeWithDifferences(in: all, largest: 1, family)
  }

  /// The model alone may be asked for before what is trained: neither changes what the other begins with.
  @Test(arguments: choices) func aPassLeavesTheTapAsItIs(_ blocks: Blocks) throws {
    let path = try folder.f32("qwen2"), f = try Fixture(path, { $0.blocks = blocks })
    try f.read(Fixture.samples)
    let own = try f.step.forward(keeps: false).read(), alone = try f.step.forward(keeps: false, adds: false).read()
    #expect(try f.step.forward(keeps: true).read() == own)
    #expect(alone != own)
    #expect(try f.step.forward(keeps: false, adds: false).read() == alone)
  }

  private static func configuration(_ blocks: Blocks = .last(2)) -> TrainingConfiguration {
    var c = TrainingConfiguration()
    var lora = LoRAConfiguration()
    lora.rank = 4
    lora.dropout = 0.1
    lora.blocks = blocks
    c.method = .lora(lora)
    c.batchSize = 1
    c.epochs = 3
    c.learningRate = 2e-3
    return c
  }

  private static let samples = (0..<20).map { i in
    Sample(
      prompt: "question \(i % 7) of kind \(i % 2 == 0 ? "even" : "odd"):",
      completion: i % 2 == 0 ? " yes" : " no, never")
  }

  private func bytes(_ run: RunDirectory) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: run.weightsPath)) }

  private func trained(
    _ path: String, _ name: String, cache: CacheOptions? = nil, _ configuration: TrainingConfiguration = configuration()
  ) throws -> RunDirectory {
    let run = RunDirectory(folder.file(name)), backbone = try Backbone(path: path, threads: 2, device: testDevice)
    try Trainer(backbone, configuration, cache: cache).train(Self.samples, into: run)
    return run
  }

  @Test func cachedEqualsUncachedToTheBit() throws {
    let path = try folder.model("q8.gguf") { $0.architecture = .gemma3 }
    let plain = try trained(path, "plain"), options = CacheOptions(directory: folder.file("cache"))
    let cached = try trained(path, "cached", cache: options)
    #expect(try bytes(plain) == bytes(cached))
    // A run that finds all in the cache does not load the model's blocks.
    let head = try #require(try CacheFolder.head(in: folder.file("cache"), of: try GGUFFile(path: path)))
    let backbone = try Backbone(path: path, threads: 2, device: testDevice, head: head)
    let again = RunDirectory(folder.file("again"))
    try Trainer(backbone, Self.configuration(), cache: options).train(Self.samples, into: again)
    #expect(!backbone.holdsBlocks)
    #expect(try bytes(plain) == bytes(again))
    // Through llama.cpp it has learned.
    let whole = try Backbone(path: path, threads: 2, device: testDevice)
    let tuned = try LadderModel(whole, adapter: plain).evaluate(Self.samples).loss
    #expect(try tuned < 0.8 * LadderModel(whole).evaluate(Self.samples).loss)
  }

  /// Its cache holds one tap in F32 and no final rows; side networks' caches lie beside it and are not taken for it.
  @Test func itsCacheIsItsOwn() throws {
    let path = try folder.model("q8.gguf"), directory = folder.file("cache"),
      options = CacheOptions(directory: directory)
    _ = try trained(path, "lora", cache: options)
    var side = TrainingConfiguration()
    side.batchSize = 1
    _ = try trained(path, "side", cache: options, side)
    let found = CacheFolder.summaries(in: directory).map(\.description)
    #expect(Set(found.map(\.format)) == [.f32, .bf16])
    let own = try #require(found.first { $0.format == .f32 })
    #expect(own.rungs == [2] && !own.holdsFinal)
    let entry = try #require(CacheFolder.summaries(in: directory).first { $0.description.format == .f32 })
    #expect(entry.entries == 14)
    // A cache in F32 is of no use to a side network, and says so.
    #expect {
      try trained(path, "odd", cache: CacheOptions(directory: directory, format: .f32), side)
    } throws: { ($0 as? LadderError)?.kind == .usage }
  }

  /// A cache in 16 or 8 bits rounds what is read, in the first epoch too.
  @Test(arguments: [CacheFormat.bf16, .q8]) func aRoundedCacheIsReadAlike(_ format: CacheFormat) throws {
    let path = try folder.model("q8.gguf"), options = CacheOptions(directory: folder.file("cache"), format: format)
    let first = try trained(path, "first", cache: options), second = try trained(path, "second", cache: options)
    #expect(try bytes(first) == bytes(second))
    #expect(try bytes(first) != bytes(trained(path, "plain")))
  }

  @Test func preferencesAndTheCachedHeadTakeIt() throws {
    let path = try folder.model("q8.gguf"), options = CacheOptions(directory: folder.file("cache"))
    // The cached head is the processor's alone.
    if testDevice == "CPU" {
      var cachedHead = Self.configuration()
      cachedHead.head = .cached
      let losses = try trained(path, "head", cache: options, cachedHead).metrics().map(\.loss)
      #expect(losses.suffix(20).reduce(0, +) < losses.prefix(20).reduce(0, +))
    }

    var preference = Self.configuration()
    preference.objective = .preference
    preference.epochs = 6
    let pairs = (0..<12).map { i in
      Sample(
        .preference(
          chosen: .completion(prompt: "pick \(i):", completion: " the good one"),
          rejected: .completion(prompt: "pick \(i):", completion: " the bad one")))
    }
    let preferred = RunDirectory(folder.file("preferred"))
    let backbone = try Backbone(path: path, threads: 2, device: testDevice)
    try Trainer(backbone, preference, cache: options).train(pairs, into: preferred)
    let result = try LadderModel(backbone, adapter: preferred).evaluate(pairs)
    #expect(result.value > 0.9 && result.margin ?? 0 > 0)
  }

  @Test func peftIsToldWhichLayers() throws {
    let f = try Fixture(try folder.f32("llama"), { $0.blocks = .last(2) })
    try AdapterFiles(f.model).write(to: folder.path, modelName: "tiny")
    let json = try #require(
      try JSONSerialization.jsonObject(
        with: Data(contentsOf: URL(fileURLWithPath: folder.file(AdapterFiles.peftConfiguration)))) as? [String: Any])
    #expect(json["layers_to_transform"] as? [Int] == [2, 3] && json["layers_pattern"] as? String == "layers")
    let file = try Safetensors(path: folder.file(AdapterFiles.peftWeights))
    #expect(file.tensors.keys.allSatisfy { $0.contains("layers.2.") || $0.contains("layers.3.") })
  }

  @Test func blocksThatTheModelLacksAreRefused() throws {
    let path = try folder.model("q8.gguf")
    for blocks in [Blocks.last(0), .last(4), .last(7), .range(0, 2), .range(3, 2), .range(2, 5)] {
      #expect {
        try trained(path, "run", Self.configuration(blocks))
      } throws: { ($0 as? LadderError)?.kind == .usage && ($0 as? LadderError)?.message.contains("`blocks`") == true }
    }
    // From the first block on nothing stays as it was, so that there is nothing to keep.
    #expect {
      try trained(
        path, "run", cache: CacheOptions(directory: folder.file("cache")), Self.configuration(.range(1, 2)))
    } throws: { ($0 as? LadderError)?.message.contains("`cache`") == true }
    _ = try trained(path, "lower", Self.configuration(.range(1, 2)))
  }

  private func trained(_ path: String, _ name: String, _ configuration: TrainingConfiguration) throws -> RunDirectory {
    try trained(path, name, cache: nil, configuration)
  }
}
