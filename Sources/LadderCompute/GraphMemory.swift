import CLlama
import LadderCore

/// The memory that intermediate results of several graphs take in turn.
package final class GraphMemory {
  let engine: Engine
  private(set) var scheduler: OpaquePointer?
  private var nodes = 0
  /// Schedulers made so far: an address alone would not tell a new one from the one that it took the place of.
  private var schedulers = 0

  package init(_ engine: Engine) { self.engine = engine }

  deinit { if let scheduler { ggml_backend_sched_free(scheduler) } }

  /// Bytes that intermediate results take.
  package var bytes: Int {
    guard let scheduler else { return 0 }
    return engine.backends.reduce(0) { $0 + ggml_backend_sched_get_buffer_size(scheduler, $1) }
  }

  /// Makes room for graphs of up to `count` nodes; results of earlier ones lose their memory where that takes a new
  /// scheduler.
  func reserve(nodes count: Int) throws(LadderError) {
    guard count > nodes else { return }
    if let scheduler { ggml_backend_sched_free(scheduler) }
    var backends: [ggml_backend_t?] = engine.backends
    scheduler = ggml_backend_sched_new(&backends, nil, Int32(backends.count), count, false, false)
    guard scheduler != nil else { throw LadderError(.engine, "the scheduler for \(engine.name) did not start") }
    nodes = count
    schedulers += 1
  }

  /// What stays the same as long as results keep their places: memory only ever grows.
  var place: Place { Place(scheduler: schedulers, bytes: bytes) }

  struct Place: Equatable {
    var scheduler: Int
    var bytes: Int
  }
}
