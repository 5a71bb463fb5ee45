import Foundation

/// The one thread that calls MPI: the standard wants it to end on the thread that it began on, and most libraries allow
/// one caller at a time.
final class MPIThread: @unchecked Sendable {
  private let condition = NSCondition()
  private var jobs: [(work: @Sendable () -> Void, done: DispatchSemaphore)] = []

  init() {
    let thread = Thread { [self] in
      while true {
        condition.lock()
        while jobs.isEmpty { condition.wait() }
        var work: (@Sendable () -> Void)?
        let done: DispatchSemaphore
        (work, done) = jobs.removeFirst()
        condition.unlock()
        work?()
        // What was lent is given back first.
        work = nil
        done.signal()
      }
    }
    thread.name = "MPI"
    thread.start()
  }

  /// Runs `body` there and waits for it.
  /// - Parameter meanwhile: called every few milliseconds until it is done.
  func run<R>(meanwhile: () -> Void = {}, _ body: () throws -> R) throws -> R {
    try withoutActuallyEscaping(body) { body in
      // The caller waits: nothing of what it lends is used longer.
      nonisolated(unsafe) let work = body
      nonisolated(unsafe) var result: Result<R, any Error>?
      let done = DispatchSemaphore(value: 0)
      condition.lock()
      jobs.append(({ result = Result { try work() } }, done))
      condition.signal()
      condition.unlock()
      while done.wait(timeout: .now() + .milliseconds(20)) == .timedOut { meanwhile() }
      guard let result else { preconditionFailure("the job was done") }
      return try result.get()
    }
  }
}
