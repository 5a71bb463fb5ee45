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
    /// Samples of that length that are in memory at once.
    public var sequences: Int
    public var parameters: Int
    public var peakBytes: Int
    package var parts: MemoryBreakdown
    /// Nil where no time was measured.
    public var secondsPerThousandTokens: Double?
    public var fits: Bool?

    enum CodingKeys: String, CodingKey {
      case method, options, length, sequences, parameters
      case peakBytes = "peak_bytes"
      case parts
      case secondsPerThousandTokens = "seconds_per_1000_tokens"
      case fits
    }
  }

  public struct Options: Sendable {
    public var lengths = [512, 2048, 8192]
    /// Samples of these lengths that are in memory at once; nil is as many as training packs by its defaults.
    public var sequences: Int?
    /// Rows that carry loss, as a share of the tokens.
    public var lossShare = 1.0
    /// Bytes to fit in; nil judges nothing.
    public var memory: Int?
    /// Measure this machine for a few seconds to predict time.
    public var predictsTime = true
    public var threads: Int?
    public var device: String?
    /// A configuration of the caller's own, beside the usual ones.
    public var own: TuningMethod?
    /// Only `own`.
    public var onlyOwn = false
    public init() {}

    /// Samples in memory at once.
    public func sequences(of length: Int) -> Int {
      let defaults = TrainingConfiguration()
      return sequences ?? max(1, min(defaults.batchSize, defaults.microBatchTokens / max(1, length)))
    }
  }

  /// The rows, best first: what fits before what does not, longer samples before shorter, then the larger side network.
  package static func rows(_ file: GGUFFile, _ options: Options, report: (String) -> Void = { _ in }) throws -> [Row] {
    let model = try ModelDimensions(file)
    if options.predictsTime { report("measuring three of the model's blocks and its head on this machine") }
    let speed = options.predictsTime ? try SpeedModel(file, threads: options.threads, device: options.device) : nil
    var rows: [Row] = []
    let candidates = try candidates(options, blocks: model.blocks)
    for (text, method) in candidates {
      let tuning = method.tuning
      // A shape that this model is too small for, or a family that a method does not know, is no candidate.
      guard
        let parameters = try candidate(
          { try tuning.parameters(on: file).numbers }, isOwn: method == options.own)
      else { continue }
      report("measuring \(tuning.name)")
      for length in options.lengths {
        let sequences = options.sequences(of: length), tokens = max(length, 1) * sequences
        let load = TrainingLoad(
          length: length, tokens: tokens, lossRows: max(1, Int(Double(tokens) * options.lossShare)))
        let parts = try tuning.memory(model, load)
        let seconds = try speed.map { try tuning.seconds(model, load, on: $0) + Double(load.lossRows) * $0.headRow }
        rows.append(
          Row(
            method: tuning.name, options: text, length: length, sequences: sequences, parameters: parameters,
            peakBytes: parts.total,
            parts: parts,
            secondsPerThousandTokens: seconds.map { 1000 * $0 / Double(load.tokens) },
            fits: options.memory.map { parts.total <= $0 }))
      }
    }
    // Those that leave the model's activations alone come first.
    let order = Dictionary(candidates.map { ($1.name, $1.keepsActivations ? 0 : 1) }) { $1 }
    return rows.sorted { a, b in
      let keys = { (r: Row) in (r.fits == false ? 1 : 0, -r.length, order[r.method] ?? 0, -r.parameters, r.peakBytes) }
      return keys(a) < keys(b)
    }
  }

  private static func candidate(_ parameters: () throws -> Int, isOwn: Bool) throws -> Int? {
    isOwn ? try parameters() : try? parameters()
  }

  private static func candidates(_ options: Options, blocks: Int) throws -> [(text: String, method: TuningMethod)] {
    let own = options.own.map { [("as given", $0)] } ?? []
    if options.onlyOwn, !own.isEmpty { return own }
    func candidate(_ name: MethodOptions.Name, _ change: (inout MethodOptions) -> Void) throws -> (String, TuningMethod)
    {
      var method = MethodOptions()
      change(&method)
      // The method stands in a column of its own.
      let text = method.description
      method.method = name
      return (text.isEmpty ? "(defaults)" : text, try method.chosen())
    }
    func few(_ reduction: Double, _ rungs: SideConfiguration.Rungs) throws -> (String, TuningMethod) {
      try candidate(.lst) {
        $0.rungs = rungs
        $0.reduction = reduction
        $0.downsample = .lowRank(16)
      }
    }
    return try own + [candidate(.lst) { _ in }, candidate(.xladder) { $0.passes = 2 }]
      + [4.0, 8, 16].map { try few($0, .every(4)) } + [few(16, .all)]
      + [4, 2].map { share in try candidate(.qlora) { $0.blocks = .last(max(1, blocks / share)) } }
      + [
        candidate(.qlora) { $0.rank = 16 },
        candidate(.qlora) {
          $0.rank = 16
          $0.checkpointing = .on
        },
      ]
  }
}
