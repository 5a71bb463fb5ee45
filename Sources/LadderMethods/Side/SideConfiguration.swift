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
    /// These blocks, counted from 1.
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
  /// P: how often the ladder is climbed. 1 is LST; more is xLadder, whose width is solved for LST's parameter count.
  public var passes = 1
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

/// A side network's shape on one backbone.
package struct SideGeometry: Sendable, Equatable {
  /// d, the backbone's width.
  package let backboneWidth: Int
  /// d_s, the side network's.
  package let width: Int
  package let headSize: Int
  package let feedForward: Int
  /// The tapped blocks r(1) < r(2) < …, counted from 1.
  package let rungs: [Int]
  /// Side layers M: as many as rungs for each climb.
  package let layers: Int
  package let heads: Int
  /// Channels of a layer's queries, keys and values: whole heads, so not always the width itself.
  package var attentionWidth: Int { heads * headSize }
  /// Training keeps the output of every `interval`-th layer, so that an xLadder keeps no more than one climb of the
  /// wider LST.
  package let interval: Int

  /// The rung that side layer `j` (from 0) reads, as an index into `rungs`.
  package func rung(ofLayer j: Int) -> Int { j % rungs.count }

  /// - Throws: `usage` for settings that do not fit a backbone of this shape.
  package init(_ configuration: SideConfiguration, backboneWidth d: Int, blocks: Int) throws {
    func refuse(_ message: String) -> LadderError { LadderError(.usage, message) }
    guard blocks >= 2 else { throw LadderError(.data, "a backbone of \(blocks) block has no inner block to read") }
    let rungs: [Int]
    switch configuration.rungs {
    case .all: rungs = Array(1..<blocks)
    case .every(let n):
      guard n > 0, n < blocks else {
        throw refuse("`rungs` \(n): take every n-th block with n between 1 and \(blocks - 1)")
      }
      rungs = Array(stride(from: n, to: blocks, by: n))
    case .list(let list):
      guard let low = list.min(), let high = list.max(), low >= 1, high < blocks, Set(list).count == list.count else {
        throw refuse(
          "`rungs`: name different blocks between 1 and \(blocks - 1) (the last block enters through the final norm)")
      }
      rungs = list.sorted()
    case .middle:
      rungs = Set([7.0, 9, 11].map { min(blocks - 1, max(1, Int(($0 / 18 * Double(blocks)).rounded()))) }).sorted()
    }
    let wanted: Double
    if let reduction = configuration.reduction {
      guard reduction >= 1, reduction.isFinite else { throw refuse("`reduction` \(reduction): it must be 1 or more") }
      wanted = Double(d) / reduction
    } else {
      wanted = min(Double(d), max(256, Double(d) / 8))
    }
    var width = max(16, Int(wanted) / 32 * 32)
    if configuration.downsampler == .pool {
      guard let divisor = (1...d).first(where: { d % $0 == 0 && d / $0 <= Int(wanted) && d / $0 % 16 == 0 }) else {
        throw refuse(
          "`downsampler` pool: no width near \(Int(wanted)) divides the backbone's \(d); take another `reduction`")
      }
      width = d / divisor
    }
    if case .lowRank(let rank) = configuration.downsampler, rank > min(d, width) {
      throw refuse("`downsampler` lowrank:\(rank): the rank must be at most the side network's width \(width)")
    }
    guard configuration.headSize >= 2 else { throw refuse("the side network's head size must be 2 or more") }
    guard configuration.passes >= 1, configuration.passes <= 64 else {
      throw refuse("`passes` \(configuration.passes): take 1 to 64")
    }
    guard configuration.passes > 1 || configuration.cross == .reclimb else {
      throw refuse("`cross` \(configuration.cross.rawValue) is xLadder's: take `method` xladder")
    }
    let once = SideGeometry(
      backboneWidth: d, width: width, feedForward: (width * 8 / 3 + 31) / 32 * 32, rungs: rungs, layers: rungs.count,
      headSize: configuration.headSize)
    self = configuration.passes == 1 ? once : try once.matched(configuration)
  }

  private init(
    backboneWidth: Int, width: Int, feedForward: Int, rungs: [Int], layers: Int, headSize: Int, interval: Int = 1
  ) {
    self.backboneWidth = backboneWidth
    self.width = width
    self.feedForward = feedForward
    self.rungs = rungs
    self.layers = layers
    self.interval = interval
    // Scores cost time by the head, whatever its size: a width that whole heads do not fill is rounded to the nearest
    // number of them, half a head down, rather than cut into more and smaller ones.
    self.headSize = min(headSize, width) / 2 * 2
    heads = max(1, Int((Double(width) / Double(self.headSize) - 0.5).rounded(.up)))
  }

  /// Rows of the side network's width that the backward pass of one layer holds at a time, attention's blocks aside.
  package static let rowsOfOneLayer = 36

  /// The shortest interval with which what is kept, what a run of layers holds while it is computed again, and what one
  /// layer's backward pass holds, is at most `limit` numbers a token; the one that holds least where none is.
  private static func interval(layers: Int, width: Int, limit: Int) -> Int {
    func bytes(_ interval: Int) -> Int { width * held(layers: layers, interval: interval) / 2 }
    return (1...layers).first { bytes($0) <= limit } ?? (1...layers).min { bytes($0) < bytes($1) } ?? 1
  }

  /// Half rows of the width: what attention gave is kept for each layer in half as many bytes as the states.
  private static func held(layers: Int, interval: Int) -> Int {
    2 * ((layers - 1) / interval + interval + rowsOfOneLayer) + layers
  }

  /// The xLadder of the same parameter count: P times the layers, narrower.
  ///
  /// Widths are multiples of 16, so the feed-forward width takes up the rest, in steps of 8 where those are fine
  /// enough; of the pairs within 1% the one nearest to the usual 8/3 is taken.
  private func matched(_ configuration: SideConfiguration) throws -> SideGeometry {
    func count(_ geometry: SideGeometry) -> Int {
      SideNetwork.specifications(configuration, geometry).numbers
    }
    var single = configuration
    single.cross = .reclimb
    let target = SideNetwork.specifications(single, self).numbers
    let layers = configuration.passes * rungs.count
    var best: (geometry: SideGeometry, distortion: Double)?
    let widths = configuration.downsampler == .pool ? [width] : Array(stride(from: 16, through: width, by: 16))
    for narrow in widths {
      func with(feedForward: Int) -> SideGeometry {
        SideGeometry(
          backboneWidth: backboneWidth, width: narrow, feedForward: feedForward, rungs: rungs, layers: layers,
          headSize: configuration.headSize,
          interval: Self.interval(
            layers: layers, width: narrow, limit: Self.held(layers: self.layers, interval: 1) * width / 2))
      }
      // The count is linear in the feed-forward width.
      let base = count(with(feedForward: 0))
      let slope = count(with(feedForward: 1)) - base
      let exact = Double(target - base) / Double(slope)
      for step in [8.0, 1] {
        let feedForward = Int((exact / step).rounded() * step)
        guard feedForward >= 8, abs(base + feedForward * slope - target) * 100 <= target else { continue }
        let distortion = abs(Foundation.log(Double(feedForward) / (Double(narrow) * 8 / 3)))
        if distortion < best?.distortion ?? .infinity { best = (with(feedForward: feedForward), distortion) }
        break
      }
    }
    guard let best else {
      throw LadderError(
        .usage,
        "`passes` \(configuration.passes): no width gives the parameters of one pass; take fewer passes or a "
          + "smaller `reduction`"
      )
    }
    return best.geometry
  }
}
