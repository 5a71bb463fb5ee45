/// Graphs that run one after another in every pass of one shape: built in the first pass, run again in the next.
///
/// A pass calls `rewind`, then `run` for each of its graphs in the same order; `forget` comes before a pass of another
/// shape, whose graphs are built in the tables of the old ones. On a device other than the CPU each pass builds its
/// graphs anew, as the scheduler's copies between devices belong to one run.
package final class GraphSeries {
  private struct Entry {
    let graph: Graph
    let inputs: [UnsafeRawPointer?]
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
  package func forget() { entries.forEach { $0.graph.displace() } }

  /// Runs the pass's next graph.
  /// - Parameters:
  ///   - nodes: at least as many as `build` adds.
  ///   - inputs: tensors that the graph reads or writes and that may lie elsewhere in the next pass of the same shape.
  package func run(nodes: Int, inputs: [Tensor] = [], _ build: (Graph) throws -> Void) throws {
    let place = next
    let addresses = inputs.flatMap { [UnsafeRawPointer($0.pointer), UnsafeRawPointer($0.pointer.pointee.data)] }
    next += 1
    let earlier = place < entries.count ? entries[place] : nil
    if let earlier, earlier.inputs == addresses, earlier.graph.stands { return try earlier.graph.computeAgain() }
    built += 1
    let keeps = earlier != nil || tables <= limit
    let free = keeps ? earlier?.graph : passing
    let graph = try free.flatMap { $0.nodes >= nodes ? $0 : nil } ?? Graph(memory, nodes: nodes)
    graph.reset()
    try build(graph)
    try graph.compute()
    if !keeps {
      passing = graph
    } else if earlier != nil {
      entries[place] = Entry(graph: graph, inputs: addresses)
    } else {
      entries.append(Entry(graph: graph, inputs: addresses))
    }
  }
}
