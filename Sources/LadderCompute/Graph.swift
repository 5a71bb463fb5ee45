import CLlama
import LadderCore

/// One ggml graph: nodes are added in the order in which they run, then `compute` runs them all.
///
/// Intermediate results share memory by liveness; a result that is read after `compute` is copied to a pool's tensor
/// with `store`, or marked with `keep`.
package final class Graph {
  let context: OpaquePointer
  private var graph: OpaquePointer?
  private let memory: GraphMemory
  /// Where the results lie, once they were given memory.
  private var place: GraphMemory.Place?
  private var hostWork: [HostWork] = []
  /// Whether the device was asked for these nodes' operations.
  private var isChecked = false
  let nodes: Int

  /// A graph with memory of its own.
  package convenience init(_ engine: Engine, nodes: Int = 16384) throws {
    try self.init(GraphMemory(engine), nodes: nodes)
  }

  /// A graph of at most `nodes` nodes whose results lie in memory that it shares with others: theirs are lost when it
  /// runs.
  package init(_ memory: GraphMemory, nodes: Int) throws {
    self.memory = memory
    self.nodes = nodes
    let size = ggml_tensor_overhead() * nodes * 2 + ggml_graph_overhead_custom(nodes, false)
    context = ggml_init(ggml_init_params(mem_size: size, mem_buffer: nil, no_alloc: true))
    try memory.reserve(nodes: nodes)
    reset()
  }

  deinit { ggml_free(context) }

  package var engine: Engine { memory.engine }

  /// Bytes that intermediate results take.
  package var workspace: Int { memory.bytes }

  /// Bytes of the tables that describe the nodes.
  var tableBytes: Int { ggml_used_mem(context) }

  package func reset() {
    displace()
    isChecked = false
    hostWork = []
    ggml_reset(context)
    graph = ggml_new_graph_custom(context, nodes, false)
  }

  package func compute() throws(LadderError) {
    let scheduler = memory.scheduler
    if !engine.isCPU, !isChecked {
      try requireOperations()
      isChecked = true
    }
    ggml_backend_sched_reset(scheduler)
    guard ggml_backend_sched_alloc_graph(scheduler, graph) else {
      throw LadderError(
        .engine, "no memory for a graph on \(engine.name): use a smaller `microBatchTokens`")
    }
    if let census = engine.census { count(in: census) }
    try check(engine.inTurn { ggml_backend_sched_graph_compute(scheduler, graph) })
    place = memory.place
  }

  /// ggml ends the process where a result is to lie in memory that no backend with this operation reaches.
  /// - Throws: `engine` with the operation's name.
  private func requireOperations() throws(LadderError) {
    for index in 0..<ggml_graph_n_nodes(graph) {
      guard let node = ggml_graph_node(graph, index), !engine.canRun(node) else { continue }
      throw LadderError(
        .engine, "\(engine.name) does not run \(OperationCensus.description(node)); take the `device` CPU")
    }
  }

  private func count(in census: OperationCensus) {
    for index in 0..<ggml_graph_n_nodes(graph) {
      guard let node = ggml_graph_node(graph, index) else { continue }
      let backend = ggml_backend_sched_get_tensor_backend(memory.scheduler, node) ?? engine.main
      let device = ggml_backend_get_device(backend).map { String(cString: ggml_backend_dev_name($0)) }
      census.add(node, .training, device: device ?? engine.name)
    }
  }

  /// Whether `computeAgain` may follow: on the CPU, as long as the results' memory is where it was.
  var stands: Bool { engine.isCPU && place == memory.place }

  /// From here on the results are lost, and `computeAgain` may not follow.
  func displace() { place = nil }

  /// Runs the same nodes again.
  func computeAgain() throws(LadderError) {
    if let census = engine.census { count(in: census) }
    try check(engine.inTurn { ggml_backend_graph_compute(engine.main, graph) })
  }

  private func check(_ status: ggml_status) throws(LadderError) {
    guard status == GGML_STATUS_SUCCESS else {
      throw LadderError(
        .engine, "a graph failed on \(engine.name): \(String(cString: ggml_status_to_string(status)))")
    }
  }

  /// Adds the node to the run order and hands it back.
  func add(_ pointer: UnsafeMutablePointer<ggml_tensor>?) -> Tensor {
    guard let pointer else { preconditionFailure("ggml built no node") }
    ggml_build_forward_expand(graph, pointer)
    return Tensor(pointer)
  }

  /// Keeps a result readable until the next `reset`.
  package func keep(_ a: Tensor) -> Tensor {
    ggml_set_output(a.pointer)
    return a
  }

  /// Copies a result, converting its type, into a tensor that outlives the graph.
  @discardableResult
  package func store(_ a: Tensor, in target: Tensor) -> Tensor {
    let copy = ggml_cpy(context, a.pointer, target.pointer)
    if engine.isCPU || engine.supports(copy) { return add(copy) }
    // What the device cannot convert on its way the processor converts before.
    let converted = add(ggml_cast(context, a.pointer, target.pointer.pointee.type))
    return add(ggml_cpy(context, converted.pointer, target.pointer))
  }

  /// The memory of a tensor that another graph computed, without what it was computed from.
  package func leaf(_ a: Tensor) -> Tensor { add(ggml_view_tensor(context, a.pointer)) }

  /// A node that host code works out on each of ggml's threads: no second pool spins beside them. On the CPU alone.
  ///
  /// - Parameters:
  ///   - sources: what has to be computed before; `body` may read and write their memory.
  ///   - body: called once on each thread with its number and how many there are; what one thread writes no other
  ///     touches.
  @discardableResult
  package func host(after sources: [Tensor], _ body: @escaping (_ thread: Int, _ threads: Int) -> Void) -> Tensor {
    let work = HostWork(body)
    hostWork.append(work)
    var pointers: [UnsafeMutablePointer<ggml_tensor>?] = sources.map(\.pointer)
    let node = ggml_custom_4d(
      context, GGML_TYPE_F32, 1, 1, 1, 1, &pointers, Int32(pointers.count),
      { _, thread, threads, work in
        if let work { Unmanaged<HostWork>.fromOpaque(work).takeUnretainedValue().body(Int(thread), Int(threads)) }
      }, GGML_N_TASKS_MAX, Unmanaged.passUnretained(work).toOpaque())
    return add(node)
  }

  private final class HostWork {
    let body: (Int, Int) -> Void
    init(_ body: @escaping (Int, Int) -> Void) { self.body = body }
  }

  // MARK: - Nodes without a gradient of their own

  package func add(_ a: Tensor, _ b: Tensor) -> Tensor { add(ggml_add(context, a.pointer, b.pointer)) }
  package func addInPlace(_ a: Tensor, _ b: Tensor) -> Tensor { add(ggml_add_inplace(context, a.pointer, b.pointer)) }
  package func subtract(_ a: Tensor, _ b: Tensor) -> Tensor { add(ggml_sub(context, a.pointer, b.pointer)) }
  package func multiply(_ a: Tensor, _ b: Tensor) -> Tensor { add(ggml_mul(context, a.pointer, b.pointer)) }
  package func scale(_ a: Tensor, _ factor: Float) -> Tensor { add(ggml_scale(context, a.pointer, factor)) }
  /// factor · a + offset.
  package func scaleAndShift(_ a: Tensor, _ factor: Float, _ offset: Float) -> Tensor {
    add(ggml_scale_bias(context, a.pointer, factor, offset))
  }
  package func scaleInPlace(_ a: Tensor, _ factor: Float) -> Tensor {
    add(ggml_scale_inplace(context, a.pointer, factor))
  }
  package func tanhInPlace(_ a: Tensor) -> Tensor { add(ggml_tanh_inplace(context, a.pointer)) }
  package func softmaxInPlace(_ a: Tensor) -> Tensor { add(ggml_soft_max_inplace(context, a.pointer)) }
  package func softmax(_ a: Tensor) -> Tensor { add(ggml_soft_max(context, a.pointer)) }
  package func exp(_ a: Tensor) -> Tensor { add(ggml_exp(context, a.pointer)) }
  package func log(_ a: Tensor) -> Tensor { add(ggml_log(context, a.pointer)) }
  /// Sums along the first dimension. Shapes: [k, n] → [1, n].
  package func sumRows(_ a: Tensor) -> Tensor { add(ggml_sum_rows(context, a.pointer)) }
  package func sum(_ a: Tensor) -> Tensor { add(ggml_sum(context, a.pointer)) }
  /// One AdamW step in place; `settings` holds rate, β₁, β₂, ε, decay, 1/(1 − β₁ᵗ), 1/(1 − β₂ᵗ). Shapes: [k, n].
  package func adamW(_ a: Tensor, _ gradient: Tensor, _ first: Tensor, _ second: Tensor, _ settings: Tensor) {
    let rows = min(a[1], max(1, engine.mostNumbers / a[0]))
    for start in stride(from: 0, to: a[1], by: rows) {
      let parts = [a, gradient, first, second].map { slice($0, 1, start..<min(start + rows, a[1])).pointer }
      parts[0].pointee.flags |= Int32(GGML_TENSOR_FLAG_PARAM.rawValue)
      _ = add(ggml_opt_step_adamw(context, parts[0], parts[1], parts[2], parts[3], settings.pointer))
    }
  }
  package func square(_ a: Tensor) -> Tensor { add(ggml_sqr(context, a.pointer)) }
  /// σ(a) as SiLU(a) / a: ggml has a vectorised SiLU, its sigmoid calls the C library for every number.
  package func sigmoid(_ a: Tensor) -> Tensor {
    let nonZero = scaleAndShift(a, 1, 1e-30)
    return add(ggml_div(context, ggml_silu(context, nonZero.pointer), nonZero.pointer))
  }
  package func rmsNorm(_ a: Tensor, _ epsilon: Float) -> Tensor { add(ggml_rms_norm(context, a.pointer, epsilon)) }
  package func contiguous(_ a: Tensor) -> Tensor { add(ggml_cont(context, a.pointer)) }
  package func concatenate(_ a: Tensor, _ b: Tensor, _ dimension: Int) -> Tensor {
    add(ggml_concat(context, a.pointer, b.pointer, Int32(dimension)))
  }
  package func rows(of a: Tensor, _ ids: Tensor) -> Tensor { add(ggml_get_rows(context, a.pointer, ids.pointer)) }
  package func cast(_ a: Tensor, _ type: ElementType) -> Tensor { add(ggml_cast(context, a.pointer, type.ggml)) }

  /// Some rows of a matrix of any element type in F32. Shapes: weight [k, m], range of m → [k, range].
  package func dequantised(_ weight: Tensor, _ range: Range<Int>) -> Tensor {
    if engine.isCPU || !ggml_is_quantized(weight.pointer.pointee.type) {
      return cast(slice(weight, 1, range), .float32)
    }
    // Accelerators copy few quantised types, and gather rows of nearly all.
    let ids = ggml_arange(context, Float(range.lowerBound), Float(range.upperBound), 1)
    return rows(of: weight, add(ggml_cast(context, add(ids).pointer, GGML_TYPE_I32)))
  }

  /// `aᵀ`, contiguous: [k, n, …] → [n, k, …].
  package func transposed(_ a: Tensor) -> Tensor {
    BlockedTranspose.serves(a, engine)
      ? BlockedTranspose.add(a, to: self) : contiguous(add(ggml_transpose(context, a.pointer)))
  }

  /// The same in an element type, rounded where that is another: before the transpose where it goes by tiles, which
  /// then move half the bytes.
  package func transposed(_ a: Tensor, as type: ElementType) -> Tensor {
    if a.pointer.pointee.type == type.ggml { return transposed(a) }
    return BlockedTranspose.serves(a, engine) && (type == .float32 || type == .bfloat16)
      ? BlockedTranspose.add(cast(a, type), to: self) : cast(add(ggml_transpose(context, a.pointer)), type)
  }

  /// A view of the same elements in another shape; `a` is contiguous.
  package func reshape(_ a: Tensor, _ shape: [Int]) -> Tensor {
    let sizes = shape.map(Int64.init) + [Int64](repeating: 1, count: 4 - shape.count)
    return add(ggml_reshape_4d(context, a.pointer, sizes[0], sizes[1], sizes[2], sizes[3]))
  }

  /// Dimension `i` of `a` becomes dimension `axes[i]`; a view.
  package func permute(_ a: Tensor, _ axes: [Int]) -> Tensor {
    add(ggml_permute(context, a.pointer, Int32(axes[0]), Int32(axes[1]), Int32(axes[2]), Int32(axes[3])))
  }

  /// The slice `range` of `a` along `dimension`; a view.
  package func slice(_ a: Tensor, _ dimension: Int, _ range: Range<Int>) -> Tensor {
    var shape = a.shape, strides = (0..<4).map { a.stride($0) }
    shape[dimension] = range.count
    // Dimensions behind it of one element lie at the slice's end: ggml looks there where it takes rows for one vector.
    for next in (dimension + 1)..<max(4, dimension + 1) {
      guard shape[next] == 1 else { break }
      strides[next] = strides[next - 1] * shape[next - 1]
    }
    return add(
      ggml_view_4d(
        context, a.pointer, Int64(shape[0]), Int64(shape[1]), Int64(shape[2]), Int64(shape[3]),
        strides[1], strides[2], strides[3], range.lowerBound * a.stride(dimension)))
  }

  /// Joins tensors along `dimension`, in pairs, so that each element is copied log₂(n) times.
  package func concatenate(_ parts: [Tensor], _ dimension: Int) -> Tensor {
    var parts = parts
    while parts.count > 1 {
      parts = stride(from: 0, to: parts.count, by: 2).map { i in
        i + 1 < parts.count ? concatenate(parts[i], parts[i + 1], dimension) : parts[i]
      }
    }
    return parts[0]
  }

  /// Zeros of the shape of `a`.
  package func zeros(like a: Tensor) -> Tensor { add(ggml_fill(context, a.pointer, 0)) }

  /// Adds `b` to the slice of `a` that starts at `start` along `dimension`; hands `a` back.
  package func accumulate(_ b: Tensor, into a: Tensor, _ dimension: Int, at start: Int) -> Tensor {
    if a.count > engine.mostNumbers {
      _ = addInPlace(slice(a, dimension, start..<(start + b[dimension])), b)
      return a
    }
    return add(
      ggml_acc_inplace(
        context, a.pointer, b.pointer, a.stride(1), a.stride(2), a.stride(3), start * a.stride(dimension)))
  }
}
