import LadderCore

/// Where the backbone's activations are kept for later epochs and runs.
public struct CacheOptions: Codable, Sendable, Equatable {
  /// The folder; one may hold the caches of many models.
  public var directory: String
  /// How taps are stored; nil takes the format in which the folder keeps this backbone's, or BF16. What goes on with a
  /// tap where the model's block left it, as low-rank additions to the last blocks do, has them in F32.
  public var format: CacheFormat?
  /// Bytes that the folder may take, from now on; nil keeps to what the folder was last told, and there is no limit
  /// where it was told nothing.
  public var limit: Int?

  /// - Parameter directory: made where it is not there.
  public init(directory: String, format: CacheFormat? = nil, limit: Int? = nil) {
    self.directory = directory
    self.format = format
    self.limit = limit
  }

  /// The format that `open` takes.
  /// - Throws: `usage` for a format in which the method reads nothing.
  package func format(for backbone: Backbone, _ needs: TapNeeds) throws -> CacheFormat {
    if needs.format == .f32 { return format ?? .f32 }
    guard format != .f32 else {
      throw LadderError(.usage, "a side network reads its taps in BF16; a cache in f32 would only be larger")
    }
    return try format ?? CacheFolder.format(in: directory, fingerprint: fingerprint(of: backbone)) ?? .bf16
  }

  /// What a user should know of the folder's caches of this backbone.
  package func note(on backbone: Backbone) throws -> String? {
    ModelFingerprint.note(on: try fingerprint(of: backbone), in: directory)
  }

  private func fingerprint(of backbone: Backbone) throws -> String {
    try CacheFolder.fingerprint(in: directory, of: backbone.file, backbone.fingerprint)
  }

  /// What the cache of these taps says of itself.
  /// - Parameter longest: tokens of the longest sample that is run with the others.
  package func description(_ backbone: Backbone, _ needs: TapNeeds, longest: Int = 1) throws -> CacheDescription {
    CacheDescription(
      backbone, needs, format: try format(for: backbone, needs), fingerprint: try fingerprint(of: backbone),
      longest: longest)
  }

  /// Tells the folder its limit.
  package func keepLimit() throws { if let limit { try CacheFolder.setLimit(limit, of: directory) } }

  /// The cache of these taps.
  /// - Parameter longest: tokens of the longest sample that is run with the others.
  package func open(_ backbone: Backbone, _ needs: TapNeeds, longest: Int) throws -> ActivationCache {
    try keepLimit()
    return try ActivationCache(
      directory: directory, description: try description(backbone, needs, longest: longest),
      limit: CacheFolder.limit(of: directory))
  }
}
