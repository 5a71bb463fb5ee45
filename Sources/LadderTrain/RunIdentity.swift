import LadderBackbone
import LadderCompute
import LadderCore
import LadderData

/// What a run is made from besides its settings and the backbone: with another of these, going on would end elsewhere.
package struct RunIdentity: Codable, Sendable, Equatable {
  /// Checksums over the samples' tokens and loss rows, in their order.
  package var samples: String
  package var validation: String?
  /// The version of ggml.
  package var engine: String
  /// How the cache stores activations; without one, how the method reads them.
  package var cacheFormat: String?
  /// The names of the samples: their files, with the share of each. They alone decide nothing.
  package var name: String?
  package var validationName: String?

  init(
    _ samples: [EncodedSample], name: String, validation: [EncodedSample]?, validationName: String?,
    cacheFormat: CacheFormat?
  ) {
    self.samples = Self.checksum(samples)
    self.name = name
    self.validationName = validationName
    self.validation = validation.map(Self.checksum)
    engine = Engine.version
    self.cacheFormat = cacheFormat?.rawValue
  }

  /// What differs from an earlier run's.
  /// - Parameter own: the format that changes nothing of what the method reads.
  func differences(from other: RunIdentity, own: CacheFormat) -> [String] {
    var names: [String] = []
    /// Other files are told by their names; the same ones have changed.
    func files(_ now: String?, _ then: String?) -> String {
      guard let now, let then, now != then else { return "" }
      return " (\(then) then, \(now) now)"
    }
    if samples != other.samples { names.append("the training samples" + files(name, other.name)) }
    if validation != other.validation {
      names.append("the validation samples" + files(validationName, other.validationName))
    }
    if engine != other.engine { names.append("the engine (\(other.engine) then, \(engine) now)") }
    // The first epoch rounds what a cache rounds; one in the method's own format changes nothing.
    if cacheFormat ?? own.rawValue != other.cacheFormat ?? own.rawValue { names.append("the cache's format") }
    return names
  }

  private static func checksum(_ samples: [EncodedSample]) -> String {
    var sum = Checksum()
    for sample in samples {
      sum.mix(SampleKey(sample.packed))
      for target in sample.targets { sum.mix(UInt64(UInt32(bitPattern: target))) }
      for rivals in sample.rivals { for rival in rivals { sum.mix(UInt64(UInt32(bitPattern: rival)) | 1 << 32) } }
    }
    return String(sum.value, radix: 16)
  }
}
