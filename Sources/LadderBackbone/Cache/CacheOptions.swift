/// Where the backbone's activations are kept for later epochs and runs.
public struct CacheOptions: Codable, Sendable, Equatable {
  public var directory: String
  public var format = ActivationCache.Format.bf16
  /// Bytes that the folder may take; nil sets no limit.
  public var limit: Int?

  public init(directory: String, format: ActivationCache.Format = .bf16, limit: Int? = nil) {
    self.directory = directory
    self.format = format
    self.limit = limit
  }

  /// The cache of these taps.
  package func open(_ backbone: Backbone, rungs: [Int]) throws -> ActivationCache {
    try ActivationCache(directory: directory, description: .init(backbone, rungs: rungs, format: format), limit: limit)
  }
}
