import Foundation

/// Work on a thread of its own, beside the caller's.
package final class Alongside<Result: Sendable>: @unchecked Sendable {
  private let group = DispatchGroup()
  private let lock = NSLock()
  private var outcome: Swift.Result<Result, any Error>?

  package init(_ work: @escaping @Sendable () throws -> Result) {
    DispatchQueue.global().async(group: group) { [self] in
      let outcome = Swift.Result { try work() }
      lock.withLock { self.outcome = outcome }
    }
  }

  /// What came of it, once it is done.
  package func result() throws -> Result {
    group.wait()
    guard let outcome = lock.withLock({ outcome }) else { preconditionFailure("the work is done") }
    return try outcome.get()
  }
}
