import Foundation
import LadderBackbone
import LadderCompute
import LadderLoRA
import LadderSide
import LadderTrain

/// What fits: methods and lengths with their predicted peak memory and time.
public struct Plan: Sendable {
  public struct Row: Codable, Sendable {
    public var method: String
    /// The options that `ladder train` takes for it.
    public var options: String
    public var length: Int
    public var parameters: Int
    public var peakBytes: Int
    public var parts: MemoryModel.Breakdown
    /// Nil where no time was measured.
    public var secondsPerThousandTokens: Double?
    public var fits: Bool?

    enum CodingKeys: String, CodingKey {
      case method, options, length, parameters
      case peakBytes = "peak_bytes"
      case parts
      case secondsPerThousandTokens = "seconds_per_1000_tokens"
      case fits
    }
  }

  public struct Options: Sendable {
    public var lengths = [512, 2048, 8192]
    /// Rows that carry loss, as a share of the tokens.
    public var lossShare = 1.0
    /// Bytes to fit in; nil judges nothing.
    public var memory: Int?
    /// Measure this machine for a few seconds to predict time.
    public var predictsTime = true
    public var threads: Int?
    public var device: String?
    /// A configuration of the caller's own, beside the usual ones.
    public var own: SideConfiguration?
    /// Only `own`.
    public var onlyOwn = false
    public init() {}
  }

  /// The rows, best first: what fits before what does not, longer samples before shorter, then the larger side network.
  public static func rows(_ file: GGUFFile, _ options: Options, report: (String) -> Void = { _ in }) throws -> [Row] {
    let model = try ModelDimensions(file)
    let memory = MemoryModel(model)
    if options.predictsTime { report("measuring three blocks of the model's shape on this machine") }
    let speed = options.predictsTime ? try SpeedModel(model, threads: options.threads, device: options.device) : nil
    var rows: [Row] = []
    for (method, text, configuration) in try candidates(options, model) {
      let geometry = try SideGeometry(configuration, backboneWidth: model.width, blocks: model.blocks)
      let parameters = SideNetwork.specifications(configuration, geometry).reduce(0) { $0 + $1.count }
      report("measuring a side layer of width \(geometry.width)")
      let side = try speed?.side(configuration, width: geometry.width)
      for length in options.lengths {
        let tokens = max(length, 1), lossRows = max(1, Int(Double(tokens) * options.lossShare))
        let parts = memory.ladder(configuration, geometry, length: length, tokens: tokens, lossRows: lossRows)
        let seconds = zip2(speed, side).map {
          $0.ladder($1, layers: geometry.layers, parameters: parameters, length: length, tokens: tokens, lossRows: lossRows)
        }
        rows.append(row(method, text, length, parameters, parts, seconds.map { 1000 * $0 / Double(tokens) }, options))
      }
    }
    // A family that QLoRA cannot go back through has no such rows.
    if !options.onlyOwn, (try? BlockShape(file)) != nil {
      for checkpointing in [false, true] {
        for length in options.lengths {
          let lossRows = max(1, Int(Double(length) * options.lossShare))
          let parts = memory.qlora(rank: 16, checkpointing: checkpointing, length: length, tokens: length, lossRows: lossRows)
          let seconds = speed?.qlora(checkpointing: checkpointing, length: length, tokens: length, lossRows: lossRows)
          let text = checkpointing ? "--rank 16 --checkpointing on" : "--rank 16"
          rows.append(row("qlora", text, length, parts.parameters / 16, parts, seconds.map { 1000 * $0 / Double(length) }, options))
        }
      }
    }
    return rows.sorted { a, b in
      let keys = { (r: Row) in (r.fits == false ? 1 : 0, -r.length, r.method == "qlora" ? 1 : 0, -r.parameters, r.peakBytes) }
      return keys(a) < keys(b)
    }
  }

  private static func row(
    _ method: String, _ text: String, _ length: Int, _ parameters: Int, _ parts: MemoryModel.Breakdown, _ seconds: Double?, _ options: Options
  ) -> Row {
    Row(
      method: method, options: text, length: length, parameters: parameters, peakBytes: parts.total, parts: parts, secondsPerThousandTokens: seconds,
      fits: options.memory.map { parts.total <= $0 })
  }

  private static func candidates(_ options: Options, _ model: ModelDimensions) throws -> [(method: String, text: String, configuration: SideConfiguration)] {
    if let own = options.own, options.onlyOwn { return [(own.passes > 1 ? "xladder" : "lst", "as given", own)] }
    var list: [(String, String, SideConfiguration)] = []
    func add(_ method: String, _ text: String, _ change: (inout SideConfiguration) -> Void) {
      var configuration = SideConfiguration()
      change(&configuration)
      // A shape that this backbone is too small for is no candidate.
      guard (try? SideGeometry(configuration, backboneWidth: model.width, blocks: model.blocks)) != nil else { return }
      list.append((method, text, configuration))
    }
    if let own = options.own { list.append((own.passes > 1 ? "xladder" : "lst", "as given", own)) }
    add("lst", "(defaults)") { _ in }
    add("xladder", "--passes 2") { $0.passes = 2 }
    for reduction in [4.0, 8, 16] {
      add("lst", "--rungs 4 --reduction \(Int(reduction)) --downsample lowrank:16") { c in
        c.rungs = .every(4)
        c.reduction = reduction
        c.downsampler = .lowRank(16)
      }
    }
    add("lst", "--rungs all --reduction 16 --downsample lowrank:16") { c in
      c.rungs = .all
      c.reduction = 16
      c.downsampler = .lowRank(16)
    }
    return list
  }

  private static func zip2<A, B>(_ a: A?, _ b: B?) -> (A, B)? {
    guard let a, let b else { return nil }
    return (a, b)
  }
}
