import Foundation
import LadderCore
import LadderTrain

/// Ranks that are threads of one process.
package final class ThreadGroup: ProcessGroup {
  package let rank: Int
  package var count: Int { meeting.count }
  private let meeting: Meeting

  private init(_ rank: Int, _ meeting: Meeting) {
    self.rank = rank
    self.meeting = meeting
  }

  /// The members of a new group.
  package static func members(_ count: Int) -> [ThreadGroup] {
    let meeting = Meeting(count)
    return (0..<count).map { ThreadGroup($0, meeting) }
  }

  /// Runs `body` for each rank on a thread of its own, and gives what each came to.
  package static func run<R: Sendable>(_ count: Int, _ body: @escaping @Sendable (ThreadGroup) throws -> R) -> [Result<
    R, any Error
  >] {
    let results = Results<R>(), done = DispatchGroup()
    for member in members(count) {
      done.enter()
      let thread = Thread {
        results.set(member.rank, Result { try body(member) })
        done.leave()
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
    done.wait()
    return results.all
  }

  /// As a process that is killed: the others reach it no more.
  package func die() { meeting.end() }
  package func hurry() {}

  package func broadcast(_ bytes: UnsafeMutableRawBufferPointer) throws {
    let all = try meeting.exchange(rank, rank == 0 ? [UInt8](bytes) : [])
    if rank != 0 { bytes.copyBytes(from: all[0]) }
  }

  package func allGather(_ own: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer, counts: [Int]) throws {
    let parts = try meeting.exchange(rank, [UInt8](own))
    precondition(parts.map(\.count) == counts)
    all.copyBytes(from: parts.joined())
  }

  package func allToAll(
    _ own: UnsafeRawBufferPointer, counts: [Int], into all: UnsafeMutableRawBufferPointer, received: [Int]
  ) throws {
    let parts = try meeting.exchange(rank, [UInt8](own), counts)
    all.copyBytes(from: parts.joined())
    precondition(parts.map(\.count) == received)
  }

  /// Where ranks leave what they bring and take what the others brought.
  private final class Meeting: @unchecked Sendable {
    let count: Int
    private let condition = NSCondition()
    private var brought: [Int: ([UInt8], counts: [Int])] = [:]
    private var taken = 0
    private var isOver = false

    init(_ count: Int) { self.count = count }

    func end() {
      condition.withLock { isOver = true }
      condition.broadcast()
    }

    /// - Parameter counts: of the part for each rank; empty where all is for all.
    /// - Returns: what each rank brought for this one.
    func exchange(_ rank: Int, _ bytes: [UInt8], _ counts: [Int] = []) throws -> [[UInt8]] {
      condition.lock()
      defer { condition.unlock() }
      func wait(until isTrue: () -> Bool) throws {
        while !isTrue() {
          if isOver { throw LadderError(.interrupted, "another process cannot be reached") }
          condition.wait()
        }
      }
      // Those before are gone.
      try wait { brought[rank] == nil }
      brought[rank] = (bytes, counts)
      condition.broadcast()
      try wait { brought.count == count }
      let result = (0..<count).map { other -> [UInt8] in
        guard let (bytes, counts) = brought[other] else { return [] }
        if counts.isEmpty { return bytes }
        let start = counts[..<rank].reduce(0, +)
        return Array(bytes[start..<(start + counts[rank])])
      }
      taken += 1
      if taken == count {
        (brought, taken) = ([:], 0)
        condition.broadcast()
      } else {
        // Nobody brings the next thing before all have this one.
        try wait { brought[rank] == nil }
      }
      return result
    }
  }

  private final class Results<R: Sendable>: @unchecked Sendable {
    private let lock = NSLock()
    private var values: [Int: Result<R, any Error>] = [:]

    func set(_ rank: Int, _ value: Result<R, any Error>) { lock.withLock { values[rank] = value } }
    var all: [Result<R, any Error>] { lock.withLock { values.sorted { $0.key < $1.key }.map(\.value) } }
  }
}
