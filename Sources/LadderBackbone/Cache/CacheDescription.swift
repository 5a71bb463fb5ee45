import LadderCompute
import LadderCore

/// How an activation cache stores taps.
public enum CacheFormat: String, Codable, Sendable, CaseIterable {
  /// As the side network reads them.
  case bf16
  /// Half the size, rounded to 8 bits in blocks of 32 channels.
  case q8 = "q8_0"
  /// As the model's blocks hand them on: low-rank additions go on from there.
  case f32

  package var elementType: ElementType {
    switch self {
    case .bf16: .bfloat16
    case .q8: .q8
    case .f32: .float32
    }
  }
}

/// What an activation cache holds: the contents of its `cache.json`.
package struct CacheDescription: Codable, Sendable, Equatable {
  package var version = 1
  /// What the model calls itself: for those who look at the folder.
  package var backbone: String
  package var fingerprint: String
  package var rungs: [Int]
  package var width: Int
  package var format: CacheFormat
  package var head: HeadDescription
  /// What computed the activations, whose last bits depend on it: ggml's version, and the kind of device.
  package var engine: String
  package var device: String
  /// Whether entries hold the final norm's rows too.
  package var holdsFinal = true
  /// Whether positions were turned as the model has them in contexts longer than it was first trained on.
  package var turnsLong = false

  /// Of the first caches, which do not say.
  private static let firstEngine = "0.25.3", firstDevice = "CPU"

  /// - Parameters:
  ///   - needs: what an entry holds.
  ///   - format: nil is the needs' own.
  ///   - fingerprint: the one under which the folder keeps this backbone's caches; nil for its own.
  ///   - longest: tokens of the longest sample that is run with the others.
  package init(
    _ backbone: Backbone, _ needs: TapNeeds, format: CacheFormat? = nil, fingerprint: String? = nil, longest: Int = 1
  ) {
    self.backbone = backbone.file.name ?? backbone.file.architecture
    self.fingerprint = fingerprint ?? backbone.fingerprint
    rungs = needs.rungs
    holdsFinal = needs.readsFinal
    width = backbone.width
    self.format = format ?? needs.format
    head = backbone.head.description
    engine = Engine.version
    device = backbone.engine.kind
    turnsLong = ForwardPass.turnsLong(backbone.file, maxTokens: longest)
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
    holdsFinal = try container.decodeIfPresent(Bool.self, forKey: .holdsFinal) ?? true
    turnsLong = try container.decodeIfPresent(Bool.self, forKey: .turnsLong) ?? false
  }

  /// Whether two caches hold the same, whatever the model calls itself.
  package func isSame(as other: CacheDescription) -> Bool {
    var renamed = other
    renamed.backbone = backbone
    return self == renamed
  }

  /// The folder's name: one for each backbone, what is kept of it, engine and device.
  package var folderName: String {
    var sum = Checksum()
    for rung in rungs { sum.mix(UInt64(rung)) }
    if engine != Self.firstEngine || device != Self.firstDevice {
      for byte in "\(engine) \(device)".utf8 { sum.mix(UInt64(byte)) }
    }
    if !holdsFinal { sum.mix(1) }
    if turnsLong { sum.mix(2) }
    let key = String(sum.value & 0xffff_ffff, radix: 16)
    return "\(fingerprint)-\(String(repeating: "0", count: 8 - key.count))\(key)-\(format.rawValue)"
  }
}
