import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderMethods
import LadderTrain
import TestModels
import Testing

@Suite(.serialized) struct ActivationExtractionTests {
  let folder: TemporaryFolder
  let model: String
  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
  }

  private static let samples = (0..<300).map { i in
    Sample(
      prompt: String(repeating: "question \(i) ", count: 1 + i % 9), completion: i % 2 == 0 ? " yes" : " no, never")
  }

  private func extraction(
    _ directory: String, _ shard: CacheShard? = nil, _ change: (inout TrainingConfiguration) -> Void = { _ in }
  ) throws -> ActivationExtraction {
    var configuration = TrainerTests.configuration
    change(&configuration)
    return ActivationExtraction(
      try Backbone(path: model, threads: 2, device: "CPU"), configuration,
      cache: CacheOptions(directory: folder.file(directory)), shard: shard)
  }

  private func files(_ directory: String) throws -> [String: Data] {
    let root = folder.file(directory)
    let names = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
    return try names.reduce(into: [:]) { files, name in
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: root + "/" + name, isDirectory: &isFolder), !isFolder.boolValue
      else { return }
      files[name] = try Data(contentsOf: URL(fileURLWithPath: root + "/" + name))
    }
  }

  private static func topBlocks(_ configuration: inout TrainingConfiguration) {
    var lora = LoRAConfiguration()
    lora.rank = 4
    lora.blocks = .last(1)
    configuration.method = .lora(lora)
  }

  @Test(arguments: [false, true]) func mergedShardsAreTheWholeByteForByte(_ isTop: Bool) throws {
    let change = isTop ? Self.topBlocks : { _ in }
    let whole = try extraction("whole", nil, change).run(Self.samples)
    #expect(whole.samples == Self.samples.count && whole.computedTokens == whole.tokens)
    var tokens = 0
    for index in [3, 1, 2] {
      let shard = try extraction("parts", try CacheShard(index, of: 3), change).run(Self.samples)
      #expect(shard.samples > 0 && shard.samples < whole.samples)
      tokens += shard.tokens
    }
    #expect(tokens == whole.tokens)
    let merged = try ActivationExtraction.merge(in: folder.file("parts"))
    #expect(merged.count == 1)
    #expect(try files("parts") == files("whole"))
    // A second time there is nothing to do.
    #expect(try extraction("whole", nil, change).run(Self.samples).computedTokens == 0)
  }

  /// What low-rank additions to the last blocks read may be stored rounded too.
  @Test(arguments: [CacheFormat.bf16, .q8, .f32]) func whatIsStoredIsWhatTrainingReads(_ format: CacheFormat) throws {
    var configuration = TrainerTests.configuration
    Self.topBlocks(&configuration)
    configuration.epochs = 1
    let backbone = try Backbone(path: model, threads: 2, device: "CPU")
    func losses(_ cache: CacheOptions?, _ run: String) throws -> [Float] {
      var losses: [Float] = []
      try Trainer(backbone, configuration, cache: cache)
        .train(Array(Self.samples.prefix(32)), into: RunDirectory(folder.file(run))) {
          if case .step(let step) = $0 { losses.append(step.loss) }
        }
      return losses
    }
    let cache = CacheOptions(directory: folder.file("kept"), format: format)
    _ = try ActivationExtraction(backbone, configuration, cache: cache).run(Array(Self.samples.prefix(32)))
    let kept = try losses(cache, "kept-run"), fresh = try losses(nil, "fresh-run")
    #expect(kept.count == fresh.count && !kept.isEmpty)
    for (a, b) in zip(kept, fresh) { #expect(abs(a - b) < (format == .q8 ? 0.05 : 0.02), "\(kept) \(fresh)") }
  }

  /// The taps' statistics too: a machine that holds the cache and the head can train.
  @Test(arguments: [false, true]) func fromAFilledCacheNoBlockIsLoaded(_ readsAnswers: Bool) throws {
    func change(_ c: inout TrainingConfiguration) {
      if readsAnswers { c.side.statisticsRows = .answers }
      c.side.rungs = .list([1, 2])
    }
    let samples = Array(Self.samples.prefix(32)), path = folder.file("kept")
    // More rungs than are trained on.
    _ = try extraction("kept") { $0.side.rungs = .list([1, 2, 3]) }.run(samples)
    let head = try #require(try CacheFolder.head(in: path, of: try GGUFFile(path: model)))
    let backbone = try Backbone(path: model, threads: 2, device: "CPU", head: head)
    var configuration = TrainerTests.configuration
    change(&configuration)
    try Trainer(backbone, configuration, cache: CacheOptions(directory: path))
      .train(samples, into: RunDirectory(folder.file("run")))
    #expect(!backbone.holdsBlocks)
  }

  @Test func aShardThatWasStoppedGoesOn() async throws {
    _ = try extraction("whole").run(Self.samples)
    let part = try CacheShard(1, of: 2), first = try extraction("parts", part)
    let stopped = Task {
      try first.run(Self.samples) { event in
        if case .progress = event { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    await #expect(throws: LadderError.self) { try await stopped.value }
    _ = try extraction("parts", try CacheShard(2, of: 2)).run(Self.samples)
    // What is not complete is told, and is not merged.
    let error = #expect(throws: LadderError.self) { try ActivationExtraction.merge(in: folder.file("parts")) }
    #expect(error?.kind == .missing && error?.message.contains("(1/2)") == true)
    let rest = try extraction("parts", part).run(Self.samples)
    #expect(rest.computedTokens > 0 && rest.computedTokens < rest.tokens)
    _ = try ActivationExtraction.merge(in: folder.file("parts"), keepsShards: true)
    // Merged twice, for a merge that was stopped goes on too.
    _ = try ActivationExtraction.merge(in: folder.file("parts"))
    #expect(try files("parts") == files("whole"))
  }

  @Test func whatDoesNotBelongToAShardIsRefused() throws {
    let part = try CacheShard(1, of: 2)
    _ = try extraction("parts", part).run(Self.samples)
    func kind(_ body: () throws -> Void) -> LadderError.Kind? {
      (#expect(throws: LadderError.self) { try body() })?.kind
    }
    func inside(_ configuration: inout TrainingConfiguration) { configuration.method = .lora(LoRAConfiguration()) }
    #expect(kind { _ = try extraction("parts", part).run(Array(Self.samples.prefix(200))) } == .data)
    #expect(kind { _ = try CacheShard(0, of: 2) } == .usage)
    #expect(kind { _ = try CacheShard(3, of: 2) } == .usage)
    #expect(kind { _ = try ActivationExtraction.merge(in: folder.file("nowhere")) } == .missing)
    #expect(kind { _ = try extraction("parts", part, inside).run(Self.samples) } == .usage)
    // A second writer on one shard.
    let shard = try #require(ShardFolder.all(in: folder.file("parts")).first?.shards.first)
    let key = try #require(ShardFolder.all(in: folder.file("parts")).first?.key)
    let json = try Data(contentsOf: URL(fileURLWithPath: shard.folder.path + "/cache.json"))
    let description = try JSONDecoder().decode(CacheDescription.self, from: json)
    #expect(description.folderName == key)
    let writer = try ActivationCache(shard: shard.folder.path, description: description, limit: nil)
    #expect(kind { _ = try extraction("parts", part).run(Self.samples) } == .inputOutput)
    withExtendedLifetime(writer) {}
    // A copy of a shard is none, and what is of other samples does not fill a gap.
    try FileManager.default.copyItem(atPath: shard.folder.path, toPath: shard.folder.path + ".bak")
    #expect(kind { _ = try ActivationExtraction.merge(in: folder.file("parts")) } == .missing)
    _ = try extraction("parts", try CacheShard(2, of: 2)).run(Array(Self.samples.prefix(200)))
    #expect(kind { _ = try ActivationExtraction.merge(in: folder.file("parts")) } == .missing)
    let other = try #require(ShardFolder.all(in: folder.file("parts")).first?.shards.last)
    #expect(other.record.shard.index == 2)
    other.folder.remove()
    // A damaged entry is found when it is merged.
    _ = try extraction("parts", try CacheShard(2, of: 2)).run(Self.samples)
    let activations = shard.folder.path + "/activations"
    let handle = try #require(FileHandle(forUpdatingAtPath: activations))
    try handle.seek(toOffset: 100)
    try handle.write(contentsOf: Data([1, 2, 3, 4]))
    try handle.close()
    #expect(kind { _ = try ActivationExtraction.merge(in: folder.file("parts")) } == .data)
  }
}
