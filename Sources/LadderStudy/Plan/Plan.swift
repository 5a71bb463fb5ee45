import Foundation
import LadderBackbone
import LadderCompute
import LadderMethods
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
    public var parts: MemoryBreakdown
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
    public var own: Method?
    /// Only `own`.
    public var onlyOwn = false
    public init() {}
  }

  /// The rows, best first: what fits before what does not, longer samples before shorter, then the larger side network.
  public static func rows(_ file: GGUFFile, _ options: Options, report: (String) -> Void = { _ in }) throws -> [Row] {
    let model = try ModelDimensions(file)
    if options.predictsTime { report("measuring three blocks of the model's shape on this machine") }
    let speed = options.predictsTime ? try SpeedModel(model, threads: options.threads, device: options.device) : nil
    var rows: [Row] = []
    for (text, method) in candidates(options) {
      let tuning = method.tuning
      // A shape that this model is too small for, or a family that a method does not know, is no candidate.
      guard
        let parameters = try candidate(
          { try tuning.parameters(on: file).reduce(0) { $0 + $1.count } }, isOwn: method == options.own)
      else { continue }
      report("measuring \(tuning.name)")
      for length in options.lengths {
        let load = TrainingLoad(
          length: length, tokens: max(length, 1), lossRows: max(1, Int(Double(max(length, 1)) * options.lossShare)))
        let parts = try tuning.memory(model, load)
        let seconds = try speed.map { try tuning.seconds(model, load, on: $0) + Double(load.lossRows) * $0.headRow }
        rows.append(
          Row(
            method: tuning.name, options: text, length: length, parameters: parameters, peakBytes: parts.total,
            parts: parts,
            secondsPerThousandTokens: seconds.map { 1000 * $0 / Double(load.tokens) },
            fits: options.memory.map { parts.total <= $0 }))
      }
    }
    // Those that leave the model's activations alone come first.
    let order = Dictionary(candidates(options).map { ($1.name, $1.keepsActivations ? 0 : 1) }) { $1 }
    return rows.sorted { a, b in
      let keys = { (r: Row) in (r.fits == false ? 1 : 0, -r.length, order[r.method] ?? 0, -r.parameters, r.peakBytes) }
      return keys(a) < keys(b)
    }
  }

  private static func candidate(_ parameters: () throws -> Int, isOwn: Bool) throws -> Int? {
    isOwn ? try parameters() : try? parameters()
  }

  private static func candidates(_ options: Options) -> [(text: String, method: Method)] {
    let own = options.own.map { [("as given", $0)] } ?? []
    if options.onlyOwn, !own.isEmpty { return own }
    func ladder(_ change: (inout SideConfiguration) -> Void) -> Method {
      var configuration = SideConfiguration()
      change(&configuration)
      return .ladder(configuration)
    }
    func few(_ reduction: Double, _ rungs: SideConfiguration.Rungs) -> Method {
      ladder {
        $0.rungs = rungs
        $0.reduction = reduction
        $0.downsampler = .lowRank(16)
      }
    }
    var checkpointing = LoRAConfiguration()
    checkpointing.checkpointing = true
    return own + [("(defaults)", ladder { _ in }), ("--passes 2", ladder { $0.passes = 2 })]
      + [4.0, 8, 16].map { ("--rungs 4 --reduction \(Int($0)) --downsample lowrank:16", few($0, .every(4))) }
      + [("--rungs all --reduction 16 --downsample lowrank:16", few(16, .all))]
      + [("--rank 16", .lora(LoRAConfiguration())), ("--rank 16 --checkpointing on", .lora(checkpointing))]
  }
}
