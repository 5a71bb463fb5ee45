import Foundation
import LadderCore

/// A side network's shape on one backbone.
package struct SideGeometry: Sendable, Equatable {
  /// d, the backbone's width.
  package let backboneWidth: Int
  /// d_s, the side network's.
  package let width: Int
  package let headSize: Int
  package let feedForward: Int
  /// The tapped blocks r(1) < r(2) < …, counted from 1; 0 is the embedding.
  package let rungs: [Int]
  /// Side layers M: as many as rungs for each climb, or with a `depth` as many as rungs and the free ones behind them.
  package let layers: Int
  package let heads: Int
  /// Channels of a layer's queries, keys and values: whole heads, so not always the width itself.
  package var attentionWidth: Int { heads * headSize }
  /// Training keeps the output of every `interval`-th layer, so that an xLadder keeps no more than one climb of the
  /// wider LST.
  package let interval: Int
  /// The first layer that reads nothing; `layers` where each reads.
  package let firstFree: Int

  /// The rung that side layer `j` (from 0) reads, as an index into `rungs`; nil for a free layer.
  package func rung(ofLayer j: Int) -> Int? { j < firstFree ? j % rungs.count : nil }

  /// - Throws: `usage` for settings that do not fit a backbone of this shape.
  package init(_ configuration: SideConfiguration, backboneWidth d: Int, blocks: Int) throws {
    func refuse(_ message: String) -> LadderError { LadderError(.usage, message) }
    guard blocks >= 2 else { throw LadderError(.data, "a backbone of \(blocks) block has no inner block to read") }
    if configuration.depth == nil, let free = configuration.free {
      throw refuse("`free` \(free) goes with `depth`, which is `method` xladder's")
    }
    let rungs: [Int]
    switch configuration.depth.map({ ($0, configuration.rungs) }) {
    case (let depth, .middle)?:
      guard depth >= 1, depth < blocks else {
        throw refuse("`depth` \(depth): take 1 to \(blocks - 1), the model's blocks before the last")
      }
      rungs = Array((blocks - depth)..<blocks)
    default: rungs = try Self.rungs(configuration.rungs, blocks: blocks)
    }
    if let depth = configuration.depth {
      guard rungs.count == depth else {
        throw refuse(
          "`depth` \(depth): `rungs` names \(rungs.count) blocks; each of the first \(depth) layers reads one")
      }
      guard (0...64).contains(configuration.free ?? depth) else {
        throw refuse("`free` \(configuration.free ?? depth): take 0 to 64")
      }
      guard configuration.passes == 1, configuration.cross == .reclimb else {
        throw refuse("`depth` has free layers, `passes` and `cross` climb again: take one or the other")
      }
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
    let layers = rungs.count * configuration.passes + (configuration.depth.map { configuration.free ?? $0 } ?? 0)
    self = layers == rungs.count ? once : try once.matched(configuration, layers: layers)
  }

  /// The tapped blocks, in their order.
  private static func rungs(_ choice: SideConfiguration.Rungs, blocks: Int) throws -> [Int] {
    switch choice {
    case .all: return Array(1..<blocks)
    case .every(let n):
      guard n > 0, n < blocks else {
        throw LadderError(
          .usage, "`rungs` \(n): take every n-th block with n between 1 and \(blocks - 1)")
      }
      return Array(stride(from: n, to: blocks, by: n))
    case .list(let list):
      guard let low = list.min(), let high = list.max(), low >= 0, high <= blocks, Set(list).count == list.count else {
        throw LadderError(.usage, "`rungs`: name different blocks between 1 and \(blocks), or 0 for the embedding")
      }
      return list.sorted()
    case .middle:
      return Set([7.0, 9, 11].map { min(blocks - 1, max(1, Int(($0 / 18 * Double(blocks)).rounded()))) }).sorted()
    }
  }

  private init(
    backboneWidth: Int, width: Int, feedForward: Int, rungs: [Int], layers: Int, headSize: Int, interval: Int = 1,
    firstFree: Int? = nil
  ) {
    self.backboneWidth = backboneWidth
    self.width = width
    self.feedForward = feedForward
    self.rungs = rungs
    self.layers = layers
    self.interval = interval
    self.firstFree = firstFree ?? layers
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

  /// The xLadder of the same parameter count: more layers, narrower.
  ///
  /// Widths are multiples of 16, so the feed-forward width takes up the rest, in steps of 8 where those are fine
  /// enough; of the pairs within 1% the one nearest to the usual 8/3 is taken.
  private func matched(_ configuration: SideConfiguration, layers: Int) throws -> SideGeometry {
    func count(_ geometry: SideGeometry) -> Int {
      SideNetwork.specifications(configuration, geometry).numbers
    }
    var single = configuration
    single.cross = .reclimb
    let target = SideNetwork.specifications(single, self).numbers
    let firstFree = configuration.depth == nil ? layers : rungs.count
    var best: (geometry: SideGeometry, distortion: Double)?
    let widths = configuration.downsampler == .pool ? [width] : Array(stride(from: 16, through: width, by: 16))
    for narrow in widths {
      func with(feedForward: Int) -> SideGeometry {
        SideGeometry(
          backboneWidth: backboneWidth, width: narrow, feedForward: feedForward, rungs: rungs, layers: layers,
          headSize: configuration.headSize,
          interval: Self.interval(
            layers: layers, width: narrow, limit: Self.held(layers: self.layers, interval: 1) * width / 2),
          firstFree: firstFree)
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
        "no width gives \(layers) layers the parameters of \(self.layers): take fewer `passes` or `free` layers, or a "
          + "smaller `reduction`"
      )
    }
    return best.geometry
  }
}
