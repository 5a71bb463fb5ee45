import Foundation
import LadderCore

/// What is trained, as users choose it: a side network's shape, or an adapter's. What is left open has its default.
public struct MethodOptions: NamedOptions {
  /// What is trained, by its name.
  public enum Name: String, OptionValue, Codable, CaseIterable { case lst, xladder, qlora }

  public var method: Name?
  public var reduction: Double?
  public var rungs: SideConfiguration.Rungs?
  public var passes: Int?
  public var depth: Int?
  public var free: Int?
  public var cross: SideConfiguration.CrossConnection?
  public var tapNorm: SideConfiguration.TapNorm?
  public var tapStatistics: SideConfiguration.StatisticsRows?
  public var outputBias: Switch?
  public var headSize: Int?
  public var downsample: SideConfiguration.Downsampler?
  public var initialisation: SideConfiguration.Initialisation?
  public var tapDropout: Float?
  public var precision: SideConfiguration.Precision?
  public var gates: SideConfiguration.Gates?
  public var gateTemperature: Float?
  public var rank: Int?
  public var alpha: Float?
  public var dropout: Float?
  public var targets: LoRAConfiguration.Targets?
  public var blocks: LoRAConfiguration.Blocks?
  public var checkpointing: Switch?
  public var baseModel: String?

  public init() {}

  public static var fields: [OptionField<MethodOptions>] {
    [
      .init("method", \.method), .init("reduction", \.reduction), .init("rungs", \.rungs), .init("passes", \.passes),
      .init("depth", \.depth), .init("free", \.free),
      .init("cross", \.cross), .init("tap-norm", \.tapNorm), .init("tap-statistics", \.tapStatistics),
      .init("output-bias", \.outputBias), .init("head-size", \.headSize), .init("downsample", \.downsample),
      .init("init", \.initialisation), .init("tap-dropout", \.tapDropout), .init("precision", \.precision),
      .init("gates", \.gates), .init("gate-temperature", \.gateTemperature),
    ] + loraFields
  }

  private static var loraFields: [OptionField<MethodOptions>] {
    [
      .init("rank", \.rank), .init("alpha", \.alpha), .init("dropout", \.dropout), .init("targets", \.targets),
      .init("blocks", \.blocks), .init("checkpointing", \.checkpointing), .init("base-model", \.baseModel),
    ]
  }

  /// The method with its settings.
  /// - Throws: `usage` for options of one method with another.
  public func chosen() throws(LadderError) -> TuningMethod {
    var side = side
    if method != .qlora, let field = Self.loraFields.first(where: { $0.value(self) != nil }) {
      throw LadderError(.usage, "`\(field.property)` goes with `method` qlora")
    }
    switch method {
    case nil: return .ladder(side)
    case .lst:
      guard side.passes == 1 else {
        throw LadderError(.usage, "`method` lst climbs once; for `passes` \(side.passes) take `method` xladder")
      }
      guard side.depth == nil, side.free == nil else {
        throw LadderError(.usage, "`depth` and `free` are xLadder's; take `method` xladder")
      }
      return .ladder(side)
    case .xladder:
      if passes == nil, depth == nil { side.passes = 2 }
      guard side.passes > 1 || side.depth != nil else {
        throw LadderError(
          .usage, "`method` xladder climbs more than once or has free layers; take `passes` 2 or more, or `depth`")
      }
      return .ladder(side)
    case .qlora:
      guard side == SideConfiguration() else {
        throw LadderError(.usage, "`method` qlora trains no side network; leave its options out")
      }
      return .lora(lora)
    }
  }

  private var side: SideConfiguration {
    var side = SideConfiguration()
    side.reduction = reduction
    side.gates = gates
    side.depth = depth
    side.free = free
    side.statisticsRows = tapStatistics
    side.outputBias = outputBias?.isOn
    assign(&side.rungs, rungs)
    assign(&side.passes, passes)
    assign(&side.cross, cross)
    assign(&side.tapNorm, tapNorm)
    assign(&side.headSize, headSize)
    assign(&side.downsampler, downsample)
    assign(&side.initialisation, initialisation)
    assign(&side.tapDropout, tapDropout)
    assign(&side.precision, precision)
    assign(&side.gateTemperature, gateTemperature)
    return side
  }

  private var lora: LoRAConfiguration {
    var lora = LoRAConfiguration()
    assign(&lora.rank, rank)
    assign(&lora.alpha, alpha)
    assign(&lora.dropout, dropout)
    assign(&lora.targets, targets?.list)
    lora.blocks = blocks
    assign(&lora.checkpointing, checkpointing?.isOn)
    lora.baseModel = baseModel
    return lora
  }
}

extension SideConfiguration.CrossConnection: OptionValue {}
extension SideConfiguration.TapNorm: OptionValue {}
extension SideConfiguration.StatisticsRows: OptionValue {}
extension SideConfiguration.Initialisation: OptionValue {}
extension SideConfiguration.Gates: OptionValue {}
extension SideConfiguration.Precision: OptionValue {}

extension SideConfiguration.Rungs: OptionValue {
  /// A list of one number is that block, not every so many.
  public init?(optionParts: [String]) {
    self.init(optionParts.joined(separator: ",") + (optionParts.count == 1 && Int(optionParts[0]) != nil ? "," : ""))
  }
  public init?(optionText: String) { self.init(optionText) }
  public static var optionWords: String { "middle, all, a number, or a list i,j,k" }

  public var optionText: String {
    switch self {
    case .middle: "middle"
    case .all: "all"
    case .every(let step): String(step)
    case .list(let blocks): blocks.map(String.init).joined(separator: ",") + (blocks.count == 1 ? "," : "")
    }
  }
}

extension SideConfiguration.Downsampler: OptionValue {
  public init?(optionText: String) { self.init(optionText) }
  public static var optionWords: String { "linear, lowrank:K or pool" }

  public var optionText: String {
    switch self {
    case .linear: "linear"
    case .lowRank(let rank): "lowrank:\(rank)"
    case .pool: "pool"
    }
  }
}

extension LoRAConfiguration.Blocks: OptionValue {
  public init?(optionText: String) {
    let numbers = optionText.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
    switch (numbers.first ?? nil, numbers.last ?? nil, numbers.count) {
    case (let count?, _, 1): self = .last(count)
    case (let first?, let last?, 2): self = .range(first, last)
    default: return nil
    }
  }

  public static var optionWords: String { "a number of last blocks, or a range a-b" }

  public var optionText: String {
    switch self {
    case .last(let count): String(count)
    case .range(let first, let last): "\(first)-\(last)"
    }
  }
}

extension LoRAConfiguration {
  /// The matrices to train, as users name them.
  public struct Targets: OptionValue {
    /// In the order of a block.
    public var list: [Target]

    public init(_ list: [Target]) { self.list = list }

    /// Reads `all-linear`, `attn`, or a list such as `q,v`; Hugging Face's `q_proj` is `q`.
    public init?(optionText: String) {
      switch optionText {
      case "all-linear": list = Target.allCases
      case "attn": list = [.q, .k, .v, .o]
      default:
        let named = optionText.split(separator: ",").map { name in
          Target(rawValue: name.trimmingCharacters(in: .whitespaces).replacingOccurrences(of: "_proj", with: ""))
        }
        guard !named.isEmpty, !named.contains(nil) else { return nil }
        list = Target.allCases.filter(named.contains)
      }
    }

    public static var optionWords: String { "all-linear, attn, or a list of q,k,v,o,gate,up,down" }

    public var optionText: String {
      list == Target.allCases ? "all-linear" : list.map(\.rawValue).joined(separator: ",")
    }
  }
}
