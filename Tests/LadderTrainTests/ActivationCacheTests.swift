import Foundation
import LadderBackbone
import LadderCompute
import LadderData
import LadderMethods
import LadderTrain
import TestModels
import Testing

@Suite(.serialized) struct ActivationCacheTests {
  let folder: TemporaryFolder
  let model: String
  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
  }

  /// No two alike: what the engine gives for a sample differs in its last bits with those beside it, and the cache
  /// keeps the first.
  private static let samples = (0..<48).map { i in
    Sample(
      prompt: "question \(i) of kind \(i % 2 == 0 ? "even" : "odd"):", completion: i % 2 == 0 ? " yes" : " no, never")
  }

  /// Trains into a new run; the losses of its steps, its weights, what stopped the cache, and whether the blocks were
  /// loaded.
  private func train(
    _ name: String, cache: CacheOptions? = nil, known: Bool = false, samples: [Sample] = Self.samples,
    _ change: (inout TrainingConfiguration) -> Void = { _ in }
  ) throws -> (losses: [Float], weights: Data, stopped: String?, loadedBlocks: Bool) {
    let head =
      known ? try CacheFolder.head(in: folder.file("cache"), of: try GGUFFile(path: model)) : nil
    if known { #expect(head != nil) }
    let backbone = try Backbone(path: model, threads: 2, device: "CPU", head: head)
    var c = TrainerTests.configuration
    change(&c)
    let run = RunDirectory(folder.file(name))
    var losses: [Float] = [], stopped: String?
    try Trainer(backbone, c, cache: cache).train(samples, validation: Array(samples.prefix(5)), into: run) { event in
      if case .step(let s) = event { losses.append(s.loss) }
      if case .cacheStopped(let why) = event { stopped = why }
    }
    return (losses, try Data(contentsOf: URL(fileURLWithPath: run.weightsPath)), stopped, backbone.holdsBlocks)
  }

  private var options: CacheOptions { .init(directory: folder.file("cache")) }

  @Test func aChecksumIsTheSameHoweverItsBytesAreCut() {
    var random = SystemRandomNumberGenerator()
    for count in [0, 1, 8, 31, 32, 33, 200, 1000] {
      let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
      var sum = ContentChecksum(), rest = bytes[...]
      while !rest.isEmpty {
        let piece = rest.prefix(Int.random(in: 0...70, using: &random))
        piece.withUnsafeBytes { sum.add($0) }
        rest = rest.dropFirst(piece.count)
      }
      #expect(sum.value == bytes.withUnsafeBytes(Checksum.of), "\(count) bytes")
    }
  }

  /// The fingerprint leaves the name out, and so does the cache.
  @Test func aRenamedModelFindsItsActivations() throws {
    _ = try train("first", cache: options)
    let path = try #require(CacheFolder.summaries(in: folder.file("cache")).first).path + "/cache.json"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    var description = try #require(
      try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    description["backbone"] = "another name"
    try JSONSerialization.data(withJSONObject: description).write(to: URL(fileURLWithPath: path))
    #expect(try train("second", cache: options, known: true).loadedBlocks == false)
  }

  @Test(arguments: [nil, SideConfiguration.StatisticsRows.answers]) func cachedTrainingIsTheSameToTheLastBit(
    _ rows: SideConfiguration.StatisticsRows?
  ) throws {
    func change(_ c: inout TrainingConfiguration) { c.side.statisticsRows = rows }
    let plain = try train("plain", change), cold = try train("cold", cache: options, change)
    let warm = try train("warm", cache: options, known: true, change)
    #expect(cold.losses == plain.losses && cold.weights == plain.weights)
    #expect(warm.losses == plain.losses && warm.weights == plain.weights)
    #expect(cold.loadedBlocks && !warm.loadedBlocks, "a warm cache needs no block of the model")
    let summary = try #require(CacheFolder.summaries(in: folder.file("cache")).first)
    #expect(summary.entries == Self.samples.count)
  }

  @Test func whatAKilledProcessLeftIsSwept() throws {
    _ = try train("cold", cache: options)
    let cache = try #require(CacheFolder.summaries(in: folder.file("cache")).first).path
    let gone = Process()
    gone.executableURL = URL(fileURLWithPath: "/usr/bin/true")
    try gone.run()
    gone.waitUntilExit()
    let left = cache + "/cache.json.\(gone.processIdentifier).tmp", own = cache + "/cache.json.\(getpid()).tmp"
    for path in [left, own] { try Data("{".utf8).write(to: URL(fileURLWithPath: path)) }
    _ = try train("warm", cache: options)
    #expect(!FileManager.default.fileExists(atPath: left))
    #expect(FileManager.default.fileExists(atPath: own), "a process that runs may be about to use it")
  }

  /// What looks at samples before training, to standardise and to calibrate, leaves no mark on the cache.
  @Test func aCalibratedRunIsTheSameFromAWarmCache() throws {
    let samples = Self.samples.map { sample in
      var own = sample
      own.choices = [" yes", " no, never"]
      return own
    }
    func change(_ c: inout TrainingConfiguration) {
      c.side.statisticsRows = .answers
      c.side.outputBias = true
      c.objective = .choices
    }
    let cold = try train("cold", cache: options, samples: samples, change)
    let warm = try train("warm", cache: options, known: true, samples: samples, change)
    #expect(cold.losses == warm.losses && cold.weights == warm.weights && !warm.loadedBlocks)
    #expect(
      try Safetensors(path: RunDirectory(folder.file("warm")).weightsPath).tensors["up.bias"]?.values().contains {
        $0 != 0
      } == true)
  }

  /// Taps in 8 bits err by 1/254 of their block's largest; losses by well under 1%.
  @Test func eightBitTapsGiveLossesWithinAPercent() throws {
    let plain = try train("plain")
    var eight = options
    eight.format = .q8
    let cold = try train("cold", cache: eight), warm = try train("warm", cache: eight, known: true)
    #expect(cold.losses == warm.losses)
    for (a, b) in zip(cold.losses, plain.losses) { #expect(abs(a - b) < 0.01 * b) }
    #expect(cold.losses != plain.losses)
  }

  @Test func otherSideNetworksReadTheSameCache() throws {
    _ = try train("first", cache: options)
    let other = try train("other", cache: options, known: true) { c in
      c.side.reduction = 4
      c.seed = 3
      c.learningRate = 1e-3
    }
    // Another seed packs other batches: each sample is there all the same.
    #expect(!other.loadedBlocks)
  }

  /// A cache of all rungs serves every choice of them, to the last bit and without the model's blocks.
  @Test func aCacheOfMoreRungsServesFewer() throws {
    let plain = try train("plain") { $0.side.rungs = .list([1, 3]) }
    _ = try train("all", cache: options) { $0.side.rungs = .all }
    let few = try train("few", cache: options, known: true) { $0.side.rungs = .list([1, 3]) }
    #expect(few.losses == plain.losses && few.weights == plain.weights)
    #expect(!few.loadedBlocks)
    let own = try #require(
      CacheFolder.summaries(in: folder.file("cache")).first { $0.description.rungs == [1, 3] })
    #expect(own.entries == 0, "what the wider one holds is not stored again")
  }

  @Test func aTornIndexAndADamagedEntryAreNotRead() throws {
    let plain = try train("plain")
    _ = try train("cold", cache: options)
    let path = try #require(CacheFolder.summaries(in: folder.file("cache")).first).path
    let index = try Data(contentsOf: URL(fileURLWithPath: path + "/index"))
    try index.prefix(index.count - 64 * 3 - 10).write(to: URL(fileURLWithPath: path + "/index"))
    var data = try Data(contentsOf: URL(fileURLWithPath: path + "/activations"))
    data[200] ^= 0x40
    try data.write(to: URL(fileURLWithPath: path + "/activations"))
    let again = try train("again", cache: options, known: true)
    #expect(again.loadedBlocks, "the damaged entry was computed again")
    #expect(again.losses == plain.losses && again.weights == plain.weights)
  }

  @Test func aFullCacheStopsAndTrainingGoesOn() throws {
    let plain = try train("plain")
    var small = options
    small.limit = 20_000
    let limited = try train("limited", cache: small)
    #expect(limited.stopped?.contains("limit") == true)
    #expect(limited.losses == plain.losses)
    let bytes = try #require(CacheFolder.summaries(in: folder.file("cache")).first).bytes
    #expect(bytes < 30_000)
  }

  @Test func aSecondWriterOnlyReads() throws {
    _ = try train("first", cache: options)
    let description = try #require(CacheFolder.summaries(in: folder.file("cache")).first).description
    let one = try ActivationCache(directory: folder.file("cache"), description: description)
    let two = try ActivationCache(directory: folder.file("cache"), description: description)
    #expect(one.stopped == nil && two.stopped?.contains("another process") == true)
    #expect(two.entries == one.entries && two.entries > 0)
  }
}
