import CKernels
import Dispatch
import Foundation
import LadderCompute
import LadderCore

/// How numbers of a gradient travel between processes.
public enum GradientFormat: String, Codable, Sendable, CaseIterable {
  case float32 = "f32"
  /// Half as many bytes, rounded once on the way to where they are summed and once on the way back.
  case bfloat16 = "bf16"

  var size: Int { self == .float32 ? 4 : 2 }
}

/// Sums the gradients of all ranks while the backward pass goes on, and the model reads the next samples: what is done
/// with travels on a thread of its own.
///
/// Of each part every rank sums one piece, over the ranks in their order, and sends the sums to all: 2·(N − 1)/N of the
/// gradient's bytes go out of each of N ranks, and the result is the same on all, whatever arrives first.
///
/// `ready` copies what it is told of; the thread works on the copies alone, until `finish` has waited for it.
final class GradientExchange: @unchecked Sendable {
  /// Numbers that travel together, part by part of the backward pass.
  private final class Part {
    let places: [Parameters.Place]
    let values: UnsafeMutableBufferPointer<Float>
    /// Of the thread that trains.
    var isTold = false

    init(_ places: [Parameters.Place]) {
      self.places = places
      values = .allocate(capacity: places.reduce(0) { $0 + $1.numbers.count })
      values.initialize(repeating: 0)
    }

    deinit { values.deallocate() }
  }

  private let parameters: Parameters
  private let group: any ProcessGroup
  private let format: GradientFormat
  private let parts: [Part]
  private let queue = DispatchQueue(label: "ladder.gradients")
  private let work = DispatchGroup()
  /// Of the queue: what other ranks send, and what is sent where it is rounded. They stay: a library that was given up
  /// may know of them still.
  private let pieces: UnsafeMutableRawBufferPointer
  private let rounded: UnsafeMutableBufferPointer<UInt16>
  /// Of the queue: what went wrong first.
  private var failure: (any Error)?

  /// - Parameter order: the parameters whose gradients are done with at a time (`Learner.gradientParts`).
  init(_ parameters: Parameters, order: [[String]], _ group: any ProcessGroup, format: GradientFormat) {
    self.parameters = parameters
    self.group = group
    self.format = format
    // What several parts add to is done with the last of them, and what none does at the end.
    var last: [String: Int] = [:]
    for (part, names) in order.enumerated() { for name in names { last[name] = part } }
    let all = parameters.specifications.map(\.name)
    parts = (0...order.count).map { part in
      Part(Self.joined(all.filter { (last[$0] ?? order.count) == part }.compactMap(parameters.place)))
    }
    let largest = min(Self.most, parts.map(\.values.count).max() ?? 0)
    // A rank's piece may be one number longer than its share.
    pieces = .allocate(byteCount: format.size * (largest + group.count) + 64, alignment: 64)
    rounded = .allocate(capacity: format == .bfloat16 ? largest : 0)
  }

  deinit {
    pieces.deallocate()
    rounded.deallocate()
  }

  /// Numbers that travel at once: MPI counts bytes in 32 bits.
  private static let most = 1 << 26

  /// Neighbours as one.
  private static func joined(_ places: [Parameters.Place]) -> [Parameters.Place] {
    var result: [Parameters.Place] = []
    for place in places.sorted(by: { ($0.group, $0.numbers.lowerBound) < ($1.group, $1.numbers.lowerBound) }) {
      // Up to a row of padding, which is zero, lies between neighbours.
      if let before = result.last, before.group == place.group,
        place.numbers.lowerBound - before.numbers.upperBound < 32
      {
        result[result.count - 1] = .init(
          group: place.group, numbers: before.numbers.lowerBound..<place.numbers.upperBound)
      } else {
        result.append(place)
      }
    }
    return result
  }

  /// Bytes that it works in.
  var bytes: Int { parts.reduce(0) { $0 + 4 * $1.values.count } + pieces.count + 2 * rounded.count }

  /// A step begins.
  func begin() {
    failure = nil
    parts.forEach { $0.isTold = false }
  }

  /// The gradients of a part will not change any more.
  func ready(_ number: Int) {
    let part = parts[number]
    // Parts travel in one order on all ranks.
    precondition(!part.isTold && parts[..<number].allSatisfy(\.isTold))
    part.isTold = true
    if part.values.isEmpty { return }
    var offset = 0
    for place in part.places {
      guard let gradients = parameters.groups[place.group].gradients else { continue }
      let target = UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: part.values[offset...]))
      gradients.copy(place.numbers, to: target)
      offset += place.numbers.count
    }
    queue.async(group: work) { [self] in
      // After a failure the others are as good as gone.
      guard failure == nil else { return }
      do { try sum(all: parts[number].values) } catch { failure = error }
    }
  }

  /// The gradients of the parts that were not told of will not change either.
  func readyAll() { for part in parts.indices where !parts[part].isTold { ready(part) } }

  /// Tells of all parts that were not told of, waits until all have travelled, and puts the sums in the gradients'
  /// place.
  /// - Throws: what `ProcessGroup` throws.
  func finish() throws {
    readyAll()
    while work.wait(timeout: .now() + .milliseconds(20)) == .timedOut {
      // The queue knows no task.
      if Task.isCancelled { group.hurry() }
    }
    if let failure { throw failure }
    for part in parts {
      var offset = 0
      for place in part.places {
        guard let gradients = parameters.groups[place.group].gradients else { continue }
        let source = UnsafeBufferPointer(rebasing: part.values[offset..<(offset + place.numbers.count)])
        gradients.write(bytes: UnsafeRawBufferPointer(source), at: 4 * place.numbers.lowerBound)
        offset += place.numbers.count
      }
    }
  }

  // MARK: - On the queue

  private func sum(all values: UnsafeMutableBufferPointer<Float>) throws {
    for start in stride(from: 0, to: values.count, by: Self.most) {
      try sum(UnsafeMutableBufferPointer(rebasing: values[start..<min(start + Self.most, values.count)]))
    }
  }

  private func sum(_ values: UnsafeMutableBufferPointer<Float>) throws {
    let ranks = group.count, bounds = (0...ranks).map { values.count * $0 / ranks }
    let counts = (0..<ranks).map { format.size * (bounds[$0 + 1] - bounds[$0]) }
    let own = bounds[group.rank]..<bounds[group.rank + 1]
    let pieces = UnsafeMutableRawBufferPointer(rebasing: pieces[..<(ranks * counts[group.rank])])
    try packed(values) { bytes in
      try group.allToAll(
        UnsafeRawBufferPointer(bytes), counts: counts, into: pieces,
        received: Array(repeating: counts[group.rank], count: ranks))
      let piece = UnsafeMutableBufferPointer(rebasing: values[own])
      piece.update(repeating: 0)
      add(pieces, to: piece)
      // What is sent is what is kept here.
      let ownBytes = UnsafeMutableRawBufferPointer(
        rebasing: bytes[(format.size * own.lowerBound)..<(format.size * own.upperBound)])
      if format == .bfloat16, let target = ownBytes.bindMemory(to: UInt16.self).baseAddress,
        let source = piece.baseAddress
      {
        ladder_to_bf16(source, target, piece.count)
      }
      let sent = UnsafeMutableRawBufferPointer(rebasing: self.pieces[..<ownBytes.count])
      sent.copyMemory(from: UnsafeRawBufferPointer(ownBytes))
      try group.allGather(UnsafeRawBufferPointer(sent), into: bytes, counts: counts)
      if format == .bfloat16, let target = values.baseAddress,
        let source = bytes.bindMemory(to: UInt16.self).baseAddress
      {
        ladder_from_bf16(source, target, values.count)
      }
    }
  }

  /// Calls `body` with the numbers as they travel: themselves, or rounded.
  private func packed(
    _ values: UnsafeMutableBufferPointer<Float>, _ body: (UnsafeMutableRawBufferPointer) throws -> Void
  ) throws {
    guard format == .bfloat16 else { return try body(UnsafeMutableRawBufferPointer(values)) }
    let rounded = UnsafeMutableBufferPointer(rebasing: rounded[..<values.count])
    if let source = values.baseAddress, let target = rounded.baseAddress {
      ladder_to_bf16(source, target, values.count)
    }
    try body(UnsafeMutableRawBufferPointer(rounded))
  }

  /// Adds pieces as they came to `target`, in the ranks' order.
  private func add(_ bytes: UnsafeMutableRawBufferPointer, to target: UnsafeMutableBufferPointer<Float>) {
    guard let sum = target.baseAddress, !target.isEmpty else { return }
    if format == .float32 {
      let numbers = bytes.bindMemory(to: Float.self)
      for rank in 0..<group.count {
        if let source = numbers.baseAddress {
          ladder_add_scaled(1, source + rank * target.count, sum, Int32(target.count))
        }
      }
      return
    }
    let numbers = bytes.bindMemory(to: UInt16.self)
    var widened = [Float](repeating: 0, count: target.count)
    for rank in 0..<group.count {
      widened.withUnsafeMutableBufferPointer { widened in
        guard let source = numbers.baseAddress, let copy = widened.baseAddress else { return }
        ladder_from_bf16(source + rank * target.count, copy, target.count)
        ladder_add_scaled(1, copy, sum, Int32(target.count))
      }
    }
  }
}
