/// Loops of host code over independent tasks, on ggml's own threads.
package final class HostTasks {
  private let graph: Graph

  package init(_ engine: Engine) throws { graph = try Graph(engine, nodes: 8) }

  /// Calls `body` once for each task from 0; what one task writes no other touches.
  package func run(_ count: Int, _ body: (Int) -> Void) throws {
    graph.reset()
    try withoutActuallyEscaping(body) { body in
      graph.host(after: []) { thread, threads in
        for task in stride(from: thread, to: count, by: threads) { body(task) }
      }
      try graph.compute()
      graph.reset()
    }
  }
}
