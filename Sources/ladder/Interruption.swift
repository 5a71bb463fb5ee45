import Foundation
import Ladder

/// Runs long work so that Ctrl-C and SIGTERM cancel it and let it save; a second signal ends the process at once.
func interruptible<Result: Sendable>(_ work: @escaping @Sendable () throws -> Result) async throws -> Result {
  let task = Task.detached { try work() }
  let sources = [SIGINT, SIGTERM].map { number in
    signal(number, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
    source.setEventHandler {
      if task.isCancelled { _exit(130) }
      Terminal.note("stopping; saving the state (again to stop at once)")
      task.cancel()
    }
    source.resume()
    return source
  }
  defer { sources.forEach { $0.cancel() } }
  return try await task.value
}
