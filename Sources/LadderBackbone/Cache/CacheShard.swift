import Foundation
import LadderCore

/// The part of the samples whose activations one process keeps, of several that know nothing of each other.
public struct CacheShard: Sendable, Equatable, Codable {
  /// From 1 to `count`.
  public let index: Int
  public let count: Int

  /// - Throws: `usage` for a part that cannot be.
  public init(_ index: Int, of count: Int) throws(LadderError) {
    guard (1...1 << 20).contains(count), (1...count).contains(index) else {
      throw LadderError(.usage, "`shard` is a part of all, counted from 1: 1/16 to 16/16")
    }
    self.index = index
    self.count = count
  }
}

/// A shard's folder, a cache of its own until all are merged:
///
///     DIR/shards/KEY/I-of-N/     cache.json, activations, index: as DIR/KEY will have them
///     DIR/shards/KEY/I-of-N/shard.json
///
/// Samples are cut into groups, each of which goes through the model together, and shard I of N has every N-th of them
/// from the I-th on: merged in the groups' order, the shards are the cache that one process writes, byte for byte.
package struct ShardFolder: Sendable {
  /// The contents of `shard.json`.
  package struct Record: Codable, Sendable, Equatable {
    package var shard: CacheShard
    /// A checksum over all samples of all shards, in order.
    package var samples: String
    /// How many samples each of its groups holds.
    package var groups: [Int]
    package var isComplete = false

    package init(shard: CacheShard, samples: String, groups: [Int]) {
      self.shard = shard
      self.samples = samples
      self.groups = groups
    }
  }

  package let path: String

  /// - Parameter key: the folder's name of the cache that the shards become.
  package init(_ directory: String, key: String, _ shard: CacheShard) {
    path = "\(Self.root(directory))/\(key)/\(shard.index)-of-\(shard.count)"
  }

  private init(path: String) { self.path = path }

  static func root(_ directory: String) -> String { directory + "/shards" }

  private var recordPath: String { path + "/shard.json" }

  package func record() -> Record? { DurableFile.value(recordPath) }

  package func write(_ record: Record) throws { try DurableFile.write(recordPath, json: record) }

  package func remove() { try? FileManager.default.removeItem(atPath: path) }

  /// Opens the shard's cache to write to it.
  /// - Throws: `inputOutput` where another process does; `data` where the folder holds other samples.
  package func open(_ description: CacheDescription, _ record: Record, limit: Int?) throws -> ActivationCache {
    let cache = try ActivationCache(shard: path, description: description, limit: limit)
    if !cache.isWritable {
      throw LadderError(
        .inputOutput, "shard \(record.shard.index)/\(record.shard.count) in \(path): \(cache.stopped ?? "read-only")")
    }
    guard var found = self.record() else {
      if cache.entries > 0 {
        throw LadderError(.data, "\(path) holds entries of nobody knows what samples; remove it")
      }
      try write(record)
      return cache
    }
    found.isComplete = false
    guard found == record else {
      throw LadderError(.data, "\(path) is of other samples or settings; remove it, or keep these in another `cache`")
    }
    return cache
  }

  /// The shards in a folder of caches, by the key of the cache that they become.
  package static func all(in directory: String) -> [(key: String, shards: [(folder: ShardFolder, record: Record)])] {
    func names(_ path: String) -> [String] {
      ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
    }
    return names(root(directory)).map { key in
      let folder = root(directory) + "/" + key
      let shards = names(folder).compactMap { name -> (ShardFolder, Record)? in
        let shard = ShardFolder(path: folder + "/" + name)
        // A copy under another name is none.
        return shard.record().flatMap { "\($0.shard.index)-of-\($0.shard.count)" == name ? (shard, $0) : nil }
      }
      return (key, shards.sorted { $0.1.shard.index < $1.1.shard.index })
    }
  }
}

extension ActivationCache {
  /// Joins the shards of a folder into caches there.
  /// - Parameters:
  ///   - keepsShards: leave them where they are.
  ///   - report: called with bytes done and bytes in all.
  /// - Returns: the caches' folders.
  /// - Throws: `missing` where shards are not there or not complete; `data` where one is damaged; `inputOutput`.
  package static func merge(
    in directory: String, keepsShards: Bool, report: (Int, Int) -> Void
  ) throws -> [String] {
    let found = ShardFolder.all(in: directory)
    if found.allSatisfy(\.shards.isEmpty) {
      throw LadderError(.missing, "\(directory) holds no shards to merge")
    }
    let kinds = found.flatMap { key, shards in
      Dictionary(grouping: shards) { "\($0.record.shard.count) \($0.record.samples)" }.sorted { $0.key < $1.key }.map {
        (key: key, shards: $0.value)
      }
    }
    let sets = kinds.map(\.shards).filter { missing($0).isEmpty }
    let total = sets.reduce(0) { $0 + $1.reduce(0) { $0 + CacheFolder.bytes(of: $1.folder.path) } }
    var done = 0
    let paths = try sets.map { shards in
      try merge(shards, into: directory) {
        done += $0
        report(done, total)
      }
    }
    if !keepsShards {
      for set in sets { for shard in set { shard.folder.remove() } }
      removeEmptyFolders(ShardFolder.root(directory))
    }
    // What is whole is merged by now.
    if let rest = kinds.first(where: { !missing($0.shards).isEmpty }) {
      throw incomplete(rest.shards, "\(directory)/shards/\(rest.key)", others: kinds.count { $0.key == rest.key } > 1)
    }
    return paths
  }

  private typealias Shards = [(folder: ShardFolder, record: ShardFolder.Record)]

  /// The numbers that shards of one kind lack to be a whole.
  private static func missing(_ shards: Shards) -> [Int] {
    let complete = Set(shards.filter(\.record.isComplete).map(\.record.shard.index))
    return (1...max(1, shards.first?.record.shard.count ?? 1)).filter { !complete.contains($0) }
  }

  private static func incomplete(_ shards: Shards, _ folder: String, others: Bool) -> LadderError {
    let missing = missing(shards), count = shards.first?.record.shard.count ?? 0
    let shown = missing.prefix(10).map { "\($0)/\(count)" }.joined(separator: ", ")
    return LadderError(
      .missing,
      "\(folder): \(missing.count) of \(count) shards are not complete (\(shown)\(missing.count > 10 ? ", …" : "")); "
        + "run them again" + (others ? ", on the same samples: there are shards of others beside them" : ""))
  }

  private static func merge(_ shards: Shards, into directory: String, report: (Int) -> Void) throws -> String {
    let parts = try shards.map { shard in
      guard let description = CacheFolder.description(of: shard.folder.path) else {
        throw LadderError(.data, "\(shard.folder.path) does not say what it holds; run the shard again")
      }
      return try ActivationCache(shard: shard.folder.path, description: description, limit: nil, writes: false)
    }
    guard let description = parts.first?.description, parts.allSatisfy({ $0.description.isSame(as: description) })
    else {
      throw LadderError(.data, "\(directory)/shards: shards of one cache were made by different engines or settings")
    }
    let whole = try ActivationCache(
      directory: directory, description: description, limit: CacheFolder.limit(of: directory),
      countsShards: false)
    guard whole.isWritable else {
      throw LadderError(.inputOutput, "\(whole.path): \(whole.stopped ?? "it cannot be written to")")
    }
    var keys = parts.map { $0.keysInOrder[...] }
    let rounds = shards.map(\.record.groups.count).max() ?? 0
    for round in 0..<rounds {
      for (place, shard) in shards.enumerated() where round < shard.record.groups.count {
        try Cancellation.check()
        let group = keys[place].prefix(shard.record.groups[round])
        keys[place] = keys[place].dropFirst(group.count)
        guard group.count == shard.record.groups[round] else {
          throw LadderError(.data, "\(shard.folder.path) lacks entries; remove it and run the shard again")
        }
        for key in group { report(try whole.copy(key, from: parts[place])) }
      }
    }
    if let place = keys.firstIndex(where: { !$0.isEmpty }) {
      throw LadderError(
        .data, "\(shards[place].folder.path) holds more than its samples; remove it and run the shard again")
    }
    try whole.sync()
    return whole.path
  }

  /// Those that hold something stay.
  private static func removeEmptyFolders(_ root: String) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? [] { rmdir(root + "/" + name) }
    rmdir(root)
  }
}
