import Foundation
import Ladder

/// Runs long work so that the signals by which a terminal, a session or a scheduler ends a program cancel it and let it
/// save; a second one ends the process and its children at once. The end of the parent that watches over this process,
/// where there is one, counts as a signal. SIGUSR1 is what launchers of many processes hand on without ending them.
///
/// - Parameter saves: whether what is stopped keeps its state.
func interruptible<Result: Sendable>(
  saves: Bool = false, _ work: @escaping @Sendable () async throws -> Result
) async throws -> Result {
  let task = Task.detached { try await work() }
  let sources = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGUSR1].compactMap {
    number -> (any DispatchSourceSignal)? in
    var before = sigaction()
    sigaction(number, nil, &before)
    // Under nohup a terminal that closes is no reason to stop.
    if number == SIGHUP, isIgnored(before) { return nil }
    signal(number, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
    source.setEventHandler {
      if task.isCancelled {
        // The system repeats this one every second of the processor's time, while the state is being saved.
        if number == SIGXCPU { return }
        ChildProcess.killAll()
        _exit(130)
      }
      Terminal.note("stopping\(saves ? "; saving the state" : "") (again to stop at once)")
      task.cancel()
    }
    source.resume()
    return source
  }
  let watch = ParentWatch.start { task.cancel() }
  defer {
    watch?.cancel()
    for source in sources {
      source.cancel()
      signal(Int32(source.handle), SIG_DFL)
    }
  }
  return try await task.value
}

private func isIgnored(_ action: sigaction) -> Bool {
  #if os(Linux)
    unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
  #else
    unsafeBitCast(action.__sigaction_u.__sa_handler, to: Int.self) == 1
  #endif
}
