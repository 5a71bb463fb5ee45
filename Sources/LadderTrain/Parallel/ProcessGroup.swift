/// Processes that train one run together: data parallelism.
///
/// All processes make the same calls in the same order, one at a time, each from whatever thread. What is said of bytes
/// holds for any machine of the group: all have the same order of bytes.
public protocol ProcessGroup: AnyObject, Sendable {
  /// This process's number, from 0.
  var rank: Int { get }
  /// Processes.
  var count: Int { get }
  /// Copies the bytes of the first process to all.
  /// - Throws: `interrupted` where the others cannot be reached: the state is saved then.
  func broadcast(_ bytes: UnsafeMutableRawBufferPointer) throws
  /// Gives all processes' bytes to each, one process's after another's.
  /// - Parameter counts: bytes of each process.
  func allGather(_ own: UnsafeRawBufferPointer, into all: UnsafeMutableRawBufferPointer, counts: [Int]) throws
  /// Gives each process its part of every process's bytes.
  /// - Parameters:
  ///   - own: the parts for each process, one after another.
  ///   - counts: bytes of each part of `own`.
  ///   - all: the parts for this process, one process's after another's.
  ///   - received: bytes of each part of `all`.
  func allToAll(
    _ own: UnsafeRawBufferPointer, counts: [Int], into all: UnsafeMutableRawBufferPointer, received: [Int]) throws
  /// Has no call wait for the others for long any more: this process was asked to stop, and perhaps they are gone.
  func hurry()
}

extension ProcessGroup {
  /// Gives all processes' bytes to each, as many from each.
  package func gather(_ own: [UInt8]) throws -> [[UInt8]] {
    var all = [UInt8](repeating: 0, count: own.count * count)
    try own.withUnsafeBytes { own in
      try all.withUnsafeMutableBytes {
        try allGather(own, into: $0, counts: Array(repeating: own.count, count: count))
      }
    }
    return (0..<count).map { Array(all[($0 * own.count)..<(($0 + 1) * own.count)]) }
  }
}
