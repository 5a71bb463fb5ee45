import LadderBackbone
import LadderCore
import LadderData
import LadderMethods

/// Fills an activation cache before anything is trained: at once, or in shards that know nothing of each other and are
/// merged.
///
///     for each shard I, on any machine:   try ActivationExtraction(backbone, settings, cache: cache, shard: I of N).run(samples)
///     then, on one:                       try ActivationExtraction.merge(in: cache.directory)
///
/// The merged cache is the one that a single process writes, byte for byte, where the machines compute alike.
public struct ActivationExtraction: Sendable {
  /// How far it has come.
  public struct Progress: Sendable {
    /// Tokens that the cache, or the shard, holds by now, and of all that it will.
    public var tokens, totalTokens: Int
    /// Of those that this process runs.
    public var tokensPerSecond: Double
    public var secondsLeft: Double
  }

  /// What is reported on the way.
  public enum Event: Sendable {
    case samples(SampleReport)
    case note(String)
    case progress(Progress)
  }

  /// What a cache, or a shard, holds in the end.
  public struct Result: Codable, Sendable, Equatable {
    public var path: String
    /// Samples and their tokens.
    public var samples, tokens: Int
    /// The part that this is; nil is the whole.
    public var shard: CacheShard?
    /// Tokens of this part that were run, and by how many a second.
    public var computedTokens: Int
    public var tokensPerSecond: Double

    enum CodingKeys: String, CodingKey {
      case path, samples, tokens, shard
      case computedTokens = "computed_tokens"
      case tokensPerSecond = "tokens_per_second"
    }
  }

  private let backbone: Backbone
  private let configuration: TrainingConfiguration
  private let cache: CacheOptions
  private let shard: CacheShard?

  /// - Parameters:
  ///   - configuration: how samples are read, and what the method reads of the model.
  ///   - shard: nil keeps all.
  public init(
    _ backbone: Backbone, _ configuration: TrainingConfiguration = TrainingConfiguration(), cache: CacheOptions,
    shard: CacheShard? = nil
  ) {
    self.backbone = backbone
    self.configuration = configuration
    self.cache = cache
    self.shard = shard
  }

  /// Keeps the activations of samples that the cache does not hold. What is kept stays when it is stopped.
  /// - Parameters:
  ///   - samples: to learn from; `name` stands for them in errors.
  ///   - validation: to judge by.
  /// - Throws: `usage`, `data`, `inputOutput`, `interrupted`.
  public func run(
    _ samples: [Sample], name: String = "the samples", validation: [Sample] = [],
    validationName: String = "the validation samples", report: (Event) -> Void = { _ in }
  ) throws(LadderError) -> Result {
    try LadderError.unify {
      let groups = ActivationFilling.groups(try packed(samples, name, validation, validationName, report))
      return try keep(groups, report)
    }
  }

  /// Each sample once.
  private func packed(
    _ samples: [Sample], _ name: String, _ validation: [Sample], _ validationName: String, _ report: (Event) -> Void
  ) throws -> [PackedSample] {
    try configuration.validate()
    let tuning = configuration.method.tuning
    guard tuning.keepsActivations else {
      throw LadderError(
        .usage, "a cache keeps what does not change: with `method` \(tuning.name) in all blocks everything does")
    }
    let language = try backbone.language.separate()
    language.use(configuration.chat)
    let encoder = configuration.encoder(language)
    var seen: Set<SampleKey> = [], packed: [PackedSample] = []
    for (samples, name) in [(samples, name), (validation, validationName)] where !samples.isEmpty {
      let (examples, count) = try encoder.examples(samples, name: name)
      report(.samples(SampleReport(samples, name: name, kept: examples.count, count)))
      packed += examples.flatMap(\.packed).filter { seen.insert(SampleKey($0)).inserted }
    }
    return packed
  }

  private func keep(_ groups: [[PackedSample]], _ report: (Event) -> Void) throws -> Result {
    let needs = try configuration.method.tuning.needs(on: backbone.outline)
    let part = shard?.index ?? 1, parts = shard?.count ?? 1
    let own = groups.indices.filter { $0 % parts == part - 1 }.map { groups[$0] }
    if let note = try cache.note(on: backbone) { report(.note(note)) }
    let longest = groups.flatMap { $0.map(\.tokens.count) }.max() ?? 1
    let store: ActivationCache, folder: (ShardFolder, ShardFolder.Record)?
    if let shard {
      let description = try cache.description(backbone, needs, longest: longest)
      let place = ShardFolder(cache.directory, key: description.folderName, shard)
      let record = ShardFolder.Record(shard: shard, samples: Self.checksum(groups), groups: own.map(\.count))
      store = try place.open(description, record, limit: cache.limit)
      folder = (place, record)
    } else {
      (store, folder) = (try cache.open(backbone, needs, longest: longest), nil)
      guard store.isWritable else {
        throw LadderError(.inputOutput, "\(store.path): \(store.stopped ?? "it cannot be written to")")
      }
    }
    let total = own.reduce(0) { $0 + Self.tokens($1) }
    let missing = own.filter { !$0.allSatisfy(store.holds) }, computed = missing.reduce(0) { $0 + Self.tokens($1) }
    let began = ContinuousClock.now
    var done = 0
    // Of all parts: where the model's positions depend on the context, every part has them alike.
    let filling = try ActivationFilling(backbone, needs, cache: store, maxTokens: longest)
    try filling.fill(missing) { group in
      done += Self.tokens(group)
      let speed = Double(done) / max(1e-9, (ContinuousClock.now - began).seconds)
      report(
        .progress(
          Progress(
            tokens: total - computed + done, totalTokens: total, tokensPerSecond: speed,
            secondsLeft: Double(computed - done) / speed)))
    }
    let seconds = (ContinuousClock.now - began).seconds
    if let (place, record) = folder {
      try store.sync()
      var complete = record
      complete.isComplete = true
      try place.write(complete)
    }
    return Result(
      path: store.path, samples: own.reduce(0) { $0 + $1.count }, tokens: total, shard: shard,
      computedTokens: computed, tokensPerSecond: computed > 0 ? Double(computed) / max(1e-9, seconds) : 0)
  }

  private static func tokens(_ group: [PackedSample]) -> Int { group.reduce(0) { $0 + $1.tokens.count } }

  private static func checksum(_ groups: [[PackedSample]]) -> String {
    var sum = Checksum()
    for group in groups {
      sum.mix(UInt64(group.count))
      for sample in group { sum.mix(SampleKey(sample)) }
    }
    return sum.text
  }

  /// Joins the shards of a cache's folder, and removes them.
  /// - Parameters:
  ///   - keepsShards: leave them there.
  ///   - report: called with bytes done and bytes in all.
  /// - Returns: the caches' folders.
  /// - Throws: `missing` where a shard is not there or not complete, `data` where one is damaged, `inputOutput`.
  public static func merge(
    in directory: String, keepsShards: Bool = false, report: (Int, Int) -> Void = { _, _ in }
  ) throws(LadderError) -> [String] {
    try LadderError.unify {
      try ActivationCache.merge(in: directory, keepsShards: keepsShards, report: report)
    }
  }
}
