import Dispatch

/// Loops of host code over independent tasks, on ggml's own threads; beside an accelerator, whose graphs have none, on as
/// many of the system's.
package final class HostTasks {
  private let graph: Graph?
  private let threads: Int

  package init(_ engine: Engine) throws {
    graph = engine.isCPU ? try Graph(engine, nodes: 8) : nil
    threads = engine.threads
  }

  /// Calls `body` once for each task from 0; what one task writes no other touches.
  package func run(_ count: Int, _ body: (Int) -> Void) throws {
    try withoutActuallyEscaping(body) { body in
      guard let graph else {
        nonisolated(unsafe) let body = body
        DispatchQueue.concurrentPerform(iterations: min(threads, count)) { [threads] thread in
          for task in stride(from: thread, to: count, by: min(threads, count)) { body(task) }
        }
        return
      }
      graph.reset()
      graph.host(after: []) { thread, threads in
        for task in stride(from: thread, to: count, by: threads) { body(task) }
      }
      try graph.compute()
      graph.reset()
    }
  }
}
