import Foundation
import LadderBackbone
import LadderCompute
import LadderCore

/// What a side network is made of, before it meets a backbone.
public struct SideConfiguration: Codable, Sendable, Equatable {
  /// Which blocks the side network reads.
  public enum Rungs: Codable, Sendable, Equatable {
    /// Three blocks around the middle: the default, as few, middle, wide rungs did best in trials.
    case middle
    /// Every block but the last.
    case all
    /// Every n-th block but the last.
    case every(Int)
    /// These blocks, counted from 1; 0 is the embedding. The last one's output the engine computes at the rows that it puts
    /// out alone: to read it, it puts out every row, in calls of fewer tokens.
    case list([Int])

    /// Reads `middle`, `all`, `N`, `i,j,k`, or `i,` for one block alone.
    public init?(_ text: String) {
      let isList = text.hasSuffix(","), parts = isList ? text.dropLast() : text[...]
      let numbers = parts.split(separator: ",", omittingEmptySubsequences: false).map {
        Int($0.trimmingCharacters(in: .whitespaces))
      }
      if text == "middle" {
        self = .middle
      } else if text == "all" {
        self = .all
      } else if numbers.contains(nil) {
        return nil
      } else if !isList, numbers.count == 1, let step = numbers[0] {
        self = .every(step)
      } else {
        self = .list(numbers.compactMap { $0 })
      }
    }
  }

  /// How a tap of width d becomes an input of the side network's width: D of the design.
  public enum Downsampler: Codable, Sendable, Equatable {
    /// One matrix.
    case linear
    /// A product of two matrices of this rank (QST: Zhang et al., ACL 2024).
    case lowRank(Int)
    /// The mean over groups of channels, without parameters.
    case pool

    /// Reads `linear`, `lowrank`, `lowrank:K` or `pool`.
    public init?(_ text: String) {
      let parts = text.split(separator: ":", maxSplits: 1)
      switch (parts.first, parts.count) {
      case ("linear", 1): self = .linear
      case ("pool", 1): self = .pool
      case ("lowrank", 1): self = .lowRank(16)
      case ("lowrank", 2):
        guard let rank = Int(parts[1]), rank > 0 else { return nil }
        self = .lowRank(rank)
      default: return nil
      }
    }
  }

  /// How the side layers begin.
  public enum Initialisation: String, Codable, Sendable, Equatable, CaseIterable {
    case random
    /// Each side layer starts as the matching backbone block, pruned to the rows and columns of largest norm (LST,
    /// §3.3).
    case backbone
    /// Uniform within ±√(6 / (inputs + outputs)) (Glorot and Bengio 2010).
    case xavier
    /// Normal, of deviation √(2 / inputs) (He et al. 2015).
    case he
    /// Rows, or columns where those are fewer, of length 1 at right angles (Saxe et al. 2014).
    case orthogonal
  }

  /// How a side layer takes what it reads, x, and the layer below it, s, together.
  public enum Gates: String, Codable, Sendable, Equatable, CaseIterable {
    /// g·x + (1 − g)·s, g = σ(a / τ) one number (LST, §3.2).
    case scalar
    /// The same, a number for each channel (QST: Zhang et al., ACL 2024).
    case channel
    /// g⊙x + (1 − g)⊙s, g = σ(A·x + B·s + b) of each token, as in an LSTM.
    case lstm
    /// x + s, without a gate.
    case sum
  }

  /// How the layers of xLadder's later climbs meet the rungs.
  public enum CrossConnection: String, Codable, Sendable, Equatable, CaseIterable {
    /// The same rungs again, in their order, through the same downsamplers.
    case reclimb
    /// Every layer reads a learned softmax mixture of all rungs.
    case mixture
  }

  /// What is normalised on a tap's way into the side network.
  public enum TapNorm: String, Codable, Sendable, Equatable, CaseIterable {
    /// z(rms(h)): each channel by its own fixed mean and deviation.
    case standardised
    /// rms(h) alone.
    case rms
    /// z(rms(h)), and the RMS norm once more behind the downsampler.
    case downsampled
  }

  /// Over which rows z takes its means and deviations.
  public enum StatisticsRows: String, Codable, Sendable, Equatable, CaseIterable {
    /// All tokens of the first samples.
    case tokens
    /// The rows that carry loss. Where that is one row a sample, as with a label, samples differ little there beside
    /// what tells that row from other tokens: standardised over such rows alone, the differences are what the side
    /// network sees.
    case answers
  }

  /// In what the side network's products are computed; sums and parameters are F32 throughout.
  public enum Precision: String, Codable, Sendable, Equatable, CaseIterable {
    case float32 = "f32"
    case bfloat16 = "bf16"

    var elementType: ElementType { self == .float32 ? .float32 : .bfloat16 }
  }

  /// Width of the backbone over width of the side network; nil takes a width of 256, or an eighth of the backbone's if
  /// that is more.
  public var reduction: Double? = nil
  /// The blocks that are read.
  public var rungs: Rungs = .middle
  /// P: how often the ladder is climbed. 1 is LST; more is our own form of xLadder, whose width is solved for LST's parameter count.
  public var passes = 1
  /// δ: the first δ side layers read a rung each, and `free` more read nothing, so that the path through the model and
  /// the ladder is deeper by as many (xLadder as the paper has it: Zheng et al., §3). The rungs are the top δ blocks
  /// before the last unless others are named. The width is solved for the parameters of LST on the same rungs. Nil
  /// climbs.
  public var depth: Int? = nil
  /// Side layers that read nothing; nil is as many as `depth`.
  public var free: Int? = nil
  /// How xLadder's layers meet the rungs.
  public var cross: CrossConnection = .reclimb
  /// How a block's output is brought to the side network's width.
  public var downsampler: Downsampler = .linear
  /// How what is read is scaled.
  public var tapNorm: TapNorm = .standardised
  /// Nil is `tokens`.
  public var statisticsRows: StatisticsRows? = nil
  /// How the side layers begin.
  public var initialisation: Initialisation = .random
  /// How layers take in what they read; nil is `scalar`.
  public var gates: Gates? = nil
  /// τ of the gates σ(a / τ).
  public var gateTemperature: Float = 0.1
  /// The share of tap channels that training sets to zero.
  public var tapDropout: Float = 0.2
  /// The width of one attention head. A side layer has as many as come nearest to its width.
  public var headSize: Int = 64
  /// A trained bias behind the up-projection; nil is none.
  public var outputBias: Bool? = nil
  /// Base of the rotary positions (Su et al. 2021).
  public var ropeBase: Float = 10000
  /// Of the side network's products.
  public var precision: Precision = .bfloat16
  /// Added to the mean square in RMS norms.
  public var normEpsilon: Float = 1e-6

  public init() {}
}
