import CLlama

/// The memory that intermediate results of several graphs take in turn.
package final class GraphMemory {
  let engine: Engine
  private(set) var scheduler: OpaquePointer?
  private var nodes = 0

  package init(_ engine: Engine) { self.engine = engine }

  deinit { if let scheduler { ggml_backend_sched_free(scheduler) } }

  /// Bytes that intermediate results take.
  package var bytes: Int {
    guard let scheduler else { return 0 }
    return engine.backends.reduce(0) { $0 + ggml_backend_sched_get_buffer_size(scheduler, $1) }
  }

  /// Makes room for graphs of up to `count` nodes; results of earlier ones lose their memory where that takes a new scheduler.
  func reserve(nodes count: Int) throws(LadderError) {
    guard count > nodes else { return }
    if let scheduler { ggml_backend_sched_free(scheduler) }
    var backends: [ggml_backend_t?] = engine.backends
    scheduler = ggml_backend_sched_new(&backends, nil, Int32(backends.count), count, false, false)
    guard scheduler != nil else { throw LadderError(.engine, "the scheduler for \(engine.name) did not start") }
    nodes = count
  }

  /// What stays the same as long as results keep their places: memory only ever grows.
  var place: Place { Place(scheduler: scheduler, bytes: bytes) }

  struct Place: Equatable {
    var scheduler: OpaquePointer?
    var bytes: Int
  }
}

/// Graphs that run one after another in every pass of one shape: built in the first pass, run again in the next.
///
/// A pass calls `rewind`, then `run` for each of its graphs in the same order; `forget` comes before a pass of another shape, whose
/// graphs are built in the tables of the old ones. On a device other than the CPU each pass builds its graphs anew, as the
/// scheduler's copies between devices belong to one run.
package final class GraphSeries {
  private struct Entry {
    let graph: Graph
    var inputs: [UnsafeRawPointer?]
    var stands: Bool
  }

  private let memory: GraphMemory
  private var entries: [Entry] = []
  private var next = 0
  /// For graphs past the limit, one at a time.
  private var passing: Graph?
  private let limit: Int
  /// Graphs built so far.
  package private(set) var built = 0

  /// Bytes that kept graphs' tables take by default.
  package static let tablesLimit = 64 << 20

  /// - Parameter limit: bytes that kept graphs' tables may take; what comes after is built anew in each pass.
  package init(_ engine: Engine, limit: Int = tablesLimit) {
    memory = GraphMemory(engine)
    self.limit = limit
  }

  /// Bytes that intermediate results and tables take.
  package var bytes: Int { memory.bytes + tables }

  private var tables: Int { entries.reduce(0) { $0 + $1.graph.tableBytes } }

  /// The next graph is a pass's first.
  package func rewind() { next = 0 }

  /// What comes is of another shape.
  package func forget() { for i in entries.indices { entries[i].stands = false } }

  /// Runs the pass's next graph.
  /// - Parameters:
  ///   - nodes: at least as many as `build` adds.
  ///   - inputs: tensors that the graph reads or writes and that may lie elsewhere in the next pass of the same shape.
  package func run(nodes: Int, inputs: [Tensor] = [], _ build: (Graph) throws -> Void) throws {
    let place = next, addresses = inputs.flatMap { [UnsafeRawPointer($0.pointer), UnsafeRawPointer($0.pointer.pointee.data)] }
    next += 1
    if place < entries.count, entries[place].stands, entries[place].inputs == addresses, entries[place].graph.stands {
      return try entries[place].graph.computeAgain()
    }
    built += 1
    if place >= entries.count, tables > limit {
      let graph = try passing.flatMap { $0.nodes >= nodes ? $0 : nil } ?? Graph(memory, nodes: nodes)
      passing = graph
      graph.reset()
      try build(graph)
      return try graph.compute()
    }
    if place < entries.count { entries[place].stands = false }
    let graph: Graph
    if place < entries.count, entries[place].graph.nodes >= nodes {
      graph = entries[place].graph
      graph.reset()
    } else {
      graph = try Graph(memory, nodes: nodes)
    }
    let entry = Entry(graph: graph, inputs: addresses, stands: true)
    try build(graph)
    try graph.compute()
    if place < entries.count { entries[place] = entry } else { entries.append(entry) }
  }
}
