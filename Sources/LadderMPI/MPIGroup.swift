import CMPI
import Foundation
import LadderCompute
import LadderCore
import LadderTrain

/// The processes that an MPI launcher started, over the MPI library of that launcher.
///
/// The library is found at run time: nothing is linked. A process joins once.
public final class MPIGroup: ProcessGroup {
  public let rank: Int
  public let count: Int
  /// The library's name and version, in a line.
  public let version: String
  private let thread: MPIThread
  private let patience = Patience()

  /// Joins the processes that were started together, where a launcher started this one; nil where none did, or this
  /// one alone.
  /// - Throws: `missing` where no MPI library is found, `engine` where it does not begin or is another launcher's.
  public static func joined() throws(LadderError) -> MPIGroup? {
    guard let launcher = MPILauncher(ProcessInfo.processInfo.environment), launcher.processes != 1 else { return nil }
    return try LadderError.unify {
      let thread = MPIThread()
      let group = try thread.run { try MPIGroup(launcher, thread) }
      if let processes = launcher.processes, processes != group.count {
        throw LadderError(
          .engine,
          "the launcher started \(processes) processes and \(group.version) sees \(group.count): it is "
            + "another one's library; name the launcher's own in LADDER_MPI")
      }
      if group.count > 1 { return group }
      group.leave()
      return nil
    }
  }

  private init(_ launcher: MPILauncher, _ thread: MPIThread) throws {
    self.thread = thread
    var failures: [String] = [], isLoaded = false
    for path in launcher.libraries() where !isLoaded {
      var text = [CChar](repeating: 0, count: 512)
      let status = ladder_mpi_begin(path, &text, Int32(text.count))
      isLoaded = status == 0
      if !isLoaded { failures.append(Self.string(text)) }
      // One that was begun is not followed by another.
      if status == 2 { throw LadderError(.engine, "MPI does not begin: \(Self.string(text))") }
    }
    guard isLoaded else {
      throw LadderError(
        .missing,
        "an MPI launcher started this, but no MPI library is found: name it in LADDER_MPI (\(failures.first ?? ""))")
    }
    rank = Int(ladder_mpi_rank())
    count = Int(ladder_mpi_size())
    var text = [CChar](repeating: 0, count: 256)
    ladder_mpi_version(&text, Int32(text.count))
    version = Self.string(text)
  }

  private static func string(_ text: [CChar]) -> String {
    String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Threads for this process: of the processors that it may run on its share among the processes of its machine that
  /// may run on the same. Asked for by all at once.
  public func threads() throws -> Int {
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, name.count - 1)
    // Long enough for a machine's name, and for the masks of a thousand processors.
    let word = 640
    var own = Array((Self.string(name) + " " + Engine.processorMask).utf8.prefix(word))
    own += Array(repeating: 0, count: word - own.count)
    let sharers = try gather(own).count { $0 == own }
    return max(1, Engine.processors / max(1, sharers))
  }

  /// Waits for the others, where they can be reached, and ends MPI; nothing is called after it.
  public func leave() {
    if !patience.isLost { try? thread.run { _ = ladder_mpi_end() } }
  }

  public func broadcast(_ bytes: UnsafeMutableRawBufferPointer) throws {
    // MPI counts bytes in 32 bits.
    let part = 1 << 30
    for start in stride(from: 0, to: bytes.count, by: part) {
      let bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[start..<min(start + part, bytes.count)])
      try collective { ladder_mpi_broadcast(bytes.baseAddress, Int32(bytes.count)) }
    }
  }

  public func allGather(_ own: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer, counts: [Int]) throws {
    let lists = Lists(counts)
    try collective {
      ladder_mpi_all_gather(own.baseAddress, Int32(own.count), all.baseAddress, lists.counts, lists.places)
    }
    withExtendedLifetime(lists) {}
  }

  public func allToAll(
    _ own: UnsafeRawBufferPointer, counts: [Int], into all: UnsafeMutableRawBufferPointer, received: [Int]
  ) throws {
    let sent = Lists(counts), received = Lists(received)
    try collective {
      ladder_mpi_all_to_all(
        own.baseAddress, sent.counts, sent.places, all.baseAddress, received.counts, received.places)
    }
    withExtendedLifetime((sent, received)) {}
  }

  /// The first process has a state to save before its launcher ends it; the others are not to end before it has.
  /// It may be in the midst of a long pass, or of a checkpoint.
  public func hurry() { patience.end(after: rank == 0 ? 0.5 : 600) }

  /// MPI's counts, and the sums of those before each; MPI reads them until the collective is done.
  private final class Lists {
    let counts, places: UnsafeMutablePointer<Int32>

    init(_ list: [Int]) {
      counts = .allocate(capacity: list.count)
      places = .allocate(capacity: list.count)
      var sum: Int32 = 0
      for (index, count) in list.enumerated() {
        counts[index] = Int32(count)
        places[index] = sum
        sum += Int32(count)
      }
    }

    deinit {
      counts.deallocate()
      places.deallocate()
    }
  }

  /// Begins a collective and waits until it is done: briefly at once, then asleep between looks, so that a core is left
  /// to the work that goes on meanwhile.
  private func collective(_ begin: () -> Int32) throws {
    // One that was given up has its buffers still: MPI is not called again.
    if patience.isLost { throw Self.lost }
    try thread.run(meanwhile: { if Task.isCancelled { hurry() } }) {
      try check(begin())
      var done: Int32 = 0, looks = 0
      while true {
        try check(ladder_mpi_test(&done))
        if done != 0 { return }
        looks += 1
        if looks < 200 { continue }
        if patience.isOver {
          patience.lose()
          throw Self.lost
        }
        usleep(looks < 2000 ? 50 : 500)
      }
    }
  }

  private static let lost = LadderError(.interrupted, "interrupted: the other processes do not answer")

  private func check(_ code: Int32) throws {
    guard code != 0 else { return }
    patience.lose()
    var text = [CChar](repeating: 0, count: 256)
    ladder_mpi_message(code, &text, Int32(text.count))
    throw LadderError(.interrupted, "another process cannot be reached (\(Self.string(text)))")
  }
}

/// Until when the others are waited for, and whether they were waited for in vain.
private final class Patience: @unchecked Sendable {
  private let lock = NSLock()
  private var end: ContinuousClock.Instant?
  private var lost = false

  func end(after seconds: Double) { lock.withLock { end = end ?? ContinuousClock.now + .seconds(seconds) } }
  func lose() { lock.withLock { lost = true } }
  var isOver: Bool { lock.withLock { end.map { ContinuousClock.now > $0 } ?? false } }
  var isLost: Bool { lock.withLock { lost } }
}
