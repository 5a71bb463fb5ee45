import LadderCompute
import LadderCore

/// How an activation cache stores taps.
public enum CacheFormat: String, Codable, Sendable, CaseIterable {
  /// As the side network reads them.
  case bf16
  /// Half the size, rounded to 8 bits in blocks of 32 channels.
  case q8 = "q8_0"

  package var elementType: ElementType { self == .bf16 ? .bfloat16 : .q8 }
}

/// What an activation cache holds: the contents of its `cache.json`.
package struct CacheDescription: Codable, Sendable, Equatable {
  package var version = 1
  package var backbone: String
  package var fingerprint: String
  package var rungs: [Int]
  package var width: Int
  package var format: CacheFormat
  package var head: HeadDescription
  /// What computed the activations, whose last bits depend on it: ggml's version, and the kind of device.
  package var engine: String
  package var device: String

  /// Of the first caches, which do not say.
  private static let firstEngine = "0.25.3", firstDevice = "CPU"

  /// - Parameters:
  ///   - rungs: the tapped blocks, 1-based.
  ///   - fingerprint: the one under which the folder keeps this backbone's caches; nil for its own.
  package init(_ backbone: Backbone, rungs: [Int], format: CacheFormat = .bf16, fingerprint: String? = nil) {
    self.backbone = backbone.file.name ?? backbone.file.architecture
    self.fingerprint = fingerprint ?? backbone.fingerprint
    self.rungs = rungs
    width = backbone.width
    self.format = format
    head = backbone.head.description
    engine = Engine.version
    device = backbone.engine.kind
  }

  package init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    version = try container.decode(Int.self, forKey: .version)
    backbone = try container.decode(String.self, forKey: .backbone)
    fingerprint = try container.decode(String.self, forKey: .fingerprint)
    rungs = try container.decode([Int].self, forKey: .rungs)
    width = try container.decode(Int.self, forKey: .width)
    format = try container.decode(CacheFormat.self, forKey: .format)
    head = try container.decode(HeadDescription.self, forKey: .head)
    engine = try container.decodeIfPresent(String.self, forKey: .engine) ?? Self.firstEngine
    device = try container.decodeIfPresent(String.self, forKey: .device) ?? Self.firstDevice
  }

  /// The folder's name: one for each backbone, tap set, format, engine and device.
  package var folderName: String {
    var sum = Checksum()
    for rung in rungs { sum.mix(UInt64(rung)) }
    if engine != Self.firstEngine || device != Self.firstDevice {
      for byte in "\(engine) \(device)".utf8 { sum.mix(UInt64(byte)) }
    }
    let key = String(sum.value & 0xffff_ffff, radix: 16)
    return "\(fingerprint)-\(String(repeating: "0", count: 8 - key.count))\(key)-\(format.rawValue)"
  }
}
