import Foundation
import LadderBackbone
import LadderCore

/// One process's place among those that train a run together, and what they tell each other. A run of one process has
/// one rank.
///
/// Between any two things that ranks do together they agree: each says whether it is well, so that what fails on one of
/// them ends all, and none waits for what will not come.
public final class Ranks: @unchecked Sendable {
  /// Nil for one process.
  package let group: (any ProcessGroup)?
  /// Whether a failure was told to all: nothing is said after it.
  public private(set) var isOver: Bool {
    get { lock.withLock { over } }
    set { lock.withLock { over = newValue } }
  }
  private var over = false
  private let lock = NSLock()

  /// - Parameter group: the processes; nil for this one alone.
  public init(_ group: (any ProcessGroup)? = nil) { self.group = group.flatMap { $0.count > 1 ? $0 : nil } }

  /// This process's number, from 0.
  public var rank: Int { group?.rank ?? 0 }
  /// Processes.
  public var count: Int { group?.count ?? 1 }
  /// Whether it is the one that writes the run's folder and says how training goes.
  public var isFirst: Bool { rank == 0 }

  /// Does something that may fail on one of the processes alone: it fails on all then.
  /// - Throws: what `body` throws; on the others the same with the rank that it came from.
  public func together<R>(_ body: () throws -> R) throws(LadderError) -> R {
    try LadderError.unify {
      do {
        let result = try body()
        try agree()
        return result
      } catch {
        abandon(error)
        throw error
      }
    }
  }

  /// The same for what takes its time elsewhere.
  public func together<R>(isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> R) async throws -> R
  {
    do {
      let result = try await body()
      try agree()
      return result
    } catch {
      abandon(error)
      throw error
    }
  }

  /// Tells the others that this process goes on, and learns whether they do.
  /// - Parameter numbers: up to four, for all to know.
  /// - Returns: each rank's numbers.
  /// - Throws: what ended another one.
  @discardableResult
  package func agree(_ numbers: [UInt64] = []) throws -> [[UInt64]] {
    guard let group else { return [numbers] }
    let words = try exchange(RankWord(numbers), group)
    if let rank = words.firstIndex(where: { $0.kind != nil }), let kind = words[rank].kind {
      isOver = true
      throw LadderError(kind, kind == .interrupted ? words[rank].message : "process \(rank): \(words[rank].message)")
    }
    return words.map(\.numbers)
  }

  /// The sum over all ranks, in their order.
  package func sum(_ own: Double) throws -> Double {
    try agree([own.bitPattern]).reduce(0) { $0 + Double(bitPattern: $1[0]) }
  }

  /// Tells the others why this process ends; to be called where they would `agree`.
  package func abandon(_ error: any Error) {
    guard let group, !isOver else { return }
    isOver = true
    let known = error as? LadderError
    _ = try? exchange(RankWord(known?.kind ?? .engine, known?.message ?? "\(error)"), group)
  }

  private func exchange(_ own: RankWord, _ group: any ProcessGroup) throws -> [RankWord] {
    try group.gather(own.encoded).map { RankWord($0[...]) }
  }

  /// - Throws: `usage` where another rank trains on something else.
  func require(same identity: RunIdentity, _ configuration: TrainingConfiguration, _ fingerprint: String) throws {
    guard count > 1 else { return }
    var identity = identity, configuration = configuration
    // Files may have other names elsewhere, and the first rank alone starts from an earlier run.
    identity.name = nil
    identity.validationName = nil
    configuration.warmStart = nil
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let all = try agree(
      [identity.samples, identity.validation ?? "", fingerprint].map(Self.checksum)
        + [Self.checksum(String(decoding: try encoder.encode(configuration) + encoder.encode(identity), as: UTF8.self))]
    )
    let names = ["training samples", "validation samples", "model", "settings or version"]
    for (rank, numbers) in all.enumerated() {
      if let place = zip(numbers, all[0]).map({ $0 != $1 }).firstIndex(of: true) {
        throw LadderError(.usage, "process \(rank) has another \(names[place]) than the first; give all the same")
      }
    }
  }

  private static func checksum(_ text: String) -> UInt64 {
    var sum = Checksum()
    for byte in text.utf8 { sum.mix(UInt64(byte)) }
    return sum.value
  }

  /// Gives the first process's value to all.
  package func shared<T: Codable>(_ value: @autoclosure () throws -> T) throws -> T {
    guard let group else { return try value() }
    let json = try isFirst ? JSONEncoder().encode([value()]) : Data()
    guard let received = try JSONDecoder().decode([T].self, from: try shared(bytes: json, group)).first else {
      throw LadderError(.engine, "the first process sent nothing")
    }
    return received
  }

  /// Gives the first process's bytes to all.
  package func shared(bytes: @autoclosure () throws -> Data) throws -> Data {
    guard let group else { return try bytes() }
    return try shared(bytes: isFirst ? try bytes() : Data(), group)
  }

  private func shared(bytes: Data, _ group: any ProcessGroup) throws -> Data {
    var count = UInt64(bytes.count)
    try withUnsafeMutableBytes(of: &count) { try group.broadcast($0) }
    var result = isFirst ? bytes : Data(count: Int(count))
    try result.withUnsafeMutableBytes { try group.broadcast($0) }
    return result
  }

  /// The places of the samples of a batch that this process works: the longest first, each to the process that has the
  /// fewest tokens so far, so that all take about as long; in the batch's order.
  package func part(lengths: [Int]) -> [Int] {
    if count == 1 { return Array(lengths.indices) }
    var loads = [Int](repeating: 0, count: count), own: [Int] = []
    for place in lengths.indices.sorted(by: { (lengths[$1], $0) < (lengths[$0], $1) }) {
      let least = loads.indices.min { (loads[$0], $0) < (loads[$1], $1) } ?? 0
      loads[least] += max(1, lengths[place])
      if least == rank { own.append(place) }
    }
    return own.sorted()
  }
}

/// What a rank says when all agree: numbers, or why it ends. 256 bytes.
struct RankWord: Equatable {
  static let bytes = 256
  /// Nil where it is well.
  var kind: LadderError.Kind?
  var message = ""
  /// Four of them.
  var numbers: [UInt64] = []

  init(_ numbers: [UInt64]) {
    precondition(numbers.count <= 4)
    self.numbers = numbers + Array(repeating: 0, count: 4 - numbers.count)
  }

  init(_ kind: LadderError.Kind, _ message: String) {
    self.init([])
    self.kind = kind
    self.message = message
  }

  init(_ bytes: ArraySlice<UInt8>) {
    let all = Array(bytes)
    func number(_ place: Int) -> UInt64 {
      all[(8 * place)..<(8 * place + 8)].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    kind = LadderError.Kind(rawValue: Int32(truncatingIfNeeded: number(0)))
    numbers = (1...4).map(number)
    message = String(decoding: all[40...].prefix { $0 != 0 }, as: UTF8.self)
  }

  var encoded: [UInt8] {
    var result: [UInt8] = []
    for number in [UInt64(kind?.rawValue ?? 0)] + numbers {
      result += (0..<8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }
    var text = message
    while text.utf8.count > Self.bytes - 40 { text.removeLast() }
    result += text.utf8
    return result + Array(repeating: 0, count: Self.bytes - result.count)
  }
}
