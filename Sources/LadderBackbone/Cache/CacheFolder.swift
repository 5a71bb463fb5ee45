import Foundation
import LadderCore

/// A folder of activation caches, looked at from outside.
package enum CacheFolder {
  /// What one cache holds.
  package struct Summary: Sendable {
    package var path: String
    package var description: CacheDescription
    package var entries: Int
    package var tokens: Int
    package var bytes: Int
  }

  /// What each cache of the folder says of itself, by name.
  static func descriptions(in directory: String) -> [(path: String, description: CacheDescription)] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    return names.sorted().compactMap { name in
      let path = directory + "/" + name
      return description(of: path).map { (path, $0) }
    }
  }

  static func descriptionPath(_ cache: String) -> String { cache + "/cache.json" }

  /// What a cache says of itself; nil where it does not.
  static func description(of cache: String) -> CacheDescription? { DurableFile.value(descriptionPath(cache)) }

  /// The caches in a folder; empty where it holds none.
  package static func summaries(in directory: String) -> [Summary] {
    descriptions(in: directory).compactMap { path, description in
      guard let index = try? DurableFile.read(path + "/index") else { return nil }
      var entries = 0, tokens = 0
      for record in KeyedRecords.records(ofIndex: index) {
        entries += 1
        tokens += record.tokens
      }
      return Summary(path: path, description: description, entries: entries, tokens: tokens, bytes: bytes(of: path))
    }
  }

  /// The head's description that a cache of this backbone holds, so that the backbone need not be run to find it.
  package static func head(in directory: String, of file: GGUFFile) throws -> HeadDescription? {
    let found = descriptions(in: directory)
    if found.isEmpty { return nil }
    let fingerprint = try fingerprint(in: directory, of: file, try file.fingerprint().text)
    return found.first { $0.description.fingerprint == fingerprint }?.description.head
  }

  /// The fingerprint under which the folder keeps a model's activations: where it has some under the earlier kind of
  /// fingerprint and none under the present one, it goes on with those.
  /// - Parameter own: the model's present fingerprint.
  package static func fingerprint(in directory: String, of file: GGUFFile, _ own: String) throws -> String {
    let known = Set(descriptions(in: directory).map(\.description.fingerprint))
    guard !known.contains(own), known.contains(where: ModelFingerprint.isEarlier) else { return own }
    let earlier = try file.earlierFingerprint()
    return known.contains(earlier) ? earlier : own
  }

  /// The format in which the folder keeps this backbone's activations for side networks, where there is one alone.
  static func format(in directory: String, fingerprint: String) -> CacheFormat? {
    let formats = Set(
      descriptions(in: directory).map(\.description).filter { $0.fingerprint == fingerprint && $0.format != .f32 }
        .map(\.format))
    return formats.count == 1 ? formats.first : nil
  }

  // MARK: - The limit

  /// Bytes that the folder may take, as it was last told; nil for no limit.
  static func limit(of directory: String) -> Int? {
    DurableFile.value(limitPath(directory))
  }

  static func setLimit(_ bytes: Int, of directory: String) throws {
    if limit(of: directory) == bytes { return }
    try DurableFile.makeFolder(directory)
    try DurableFile.write(limitPath(directory), json: bytes)
  }

  private static func limitPath(_ directory: String) -> String { directory + "/limit.json" }

  // MARK: - Size

  static func bytes(of folder: String) -> Int {
    let files = FileManager.default.enumerator(atPath: folder)
    var sum = 0
    while let name = files?.nextObject() as? String {
      sum +=
        ((try? FileManager.default.attributesOfItem(atPath: folder + "/" + name))?[.size] as? NSNumber)?.intValue ?? 0
    }
    return sum
  }
}

/// Numbers for each rung, measured over samples.
package protocol RungMeasurement: Codable {
  /// Those of some rungs alone.
  /// - Parameter rungs: places among the rungs at hand, from 0.
  func selecting(_ rungs: [Int]) -> Self
}
