import CKernels
import CLlama

/// Products of F32 and BF16 matrices in F32 on the CPU, by kernels that reach more of its peak than ggml's do, and that
/// take either operand by rows or by columns, so that nothing is transposed.
///
/// Where the processor has instructions for BF16 a product of which an operand is in BF16 rounds the other too, as ggml's
/// does, and so does one that asks for it.
///
/// ggml's own threads share the work.
enum DenseProduct {
  /// Whether the processor has the kernels, and whether it is the faster for them.
  static let isAvailable = ladder_panel_rows() > 0
  static let isFast = ladder_multiplies_fast() != 0

  /// Whether this is for such operands. Where lanes are columns, below `least` rows packing them takes as long as the
  /// product.
  static func serves(_ engine: Engine, _ lanes: Tensor, _ rows: Tensor, _ inner: Inner) -> Bool {
    guard engine.usesDenseProducts, inner == .first || rows[inner == .both ? 0 : 1] >= least else { return false }
    return isMatrix(lanes) && isMatrix(rows) && (inner != .both || rows.pointer.pointee.type == GGML_TYPE_F32)
      && max(lanes[2], rows[2]) % min(lanes[2], rows[2]) == 0
  }

  private static let least = 8

  /// Whether a product with a BF16 operand rounds the other.
  static var rounds: Bool { ladder_multiplies_bf16() != 0 }

  /// Neighbours next to each other along the first dimension, in a type that the kernels read.
  private static func isMatrix(_ a: Tensor) -> Bool {
    let type = a.pointer.pointee.type
    guard type == GGML_TYPE_F32 || type == GGML_TYPE_BF16 else { return false }
    let size = ggml_type_size(type)
    return a[3] == 1 && a.stride(0) == size && a.stride(1) % size == 0 && a.stride(2) % size == 0
  }

  /// The dimension of an operand that is summed over.
  enum Inner {
    /// out[i, j] = Σₖ lanes[k, i]·rows[k, j].
    case first
    /// out[i, j] = Σₖ lanes[i, k]·rows[k, j].
    case second
    /// out[i, j] = Σₖ lanes[i, k]·rows[j, k].
    case both
  }

  /// Adds the node. Shapes as `Inner` says, in ggml's order: the result's first dimension is the lanes'. Along the third
  /// there are several products; where one operand has fewer matrices, neighbours share one.
  /// - Parameter rounds: F32 operands may be rounded to BF16 where that is faster.
  static func add(lanes: Tensor, rows: Tensor, inner: Inner, rounds: Bool, to graph: Graph) -> Tensor {
    let work: ggml_custom_op_t =
      switch (inner, rounds) {
      case (.first, false): { DenseProduct.run($0, $1, $2, $3, .first, false) }
      case (.second, false): { DenseProduct.run($0, $1, $2, $3, .second, false) }
      case (.both, false): { DenseProduct.run($0, $1, $2, $3, .both, false) }
      case (.first, true): { DenseProduct.run($0, $1, $2, $3, .first, true) }
      case (.second, true): { DenseProduct.run($0, $1, $2, $3, .second, true) }
      case (.both, true): { DenseProduct.run($0, $1, $2, $3, .both, true) }
      }
    var sources: [UnsafeMutablePointer<ggml_tensor>?] = [lanes.pointer, rows.pointer]
    return graph.add(
      ggml_custom_4d(
        graph.context, GGML_TYPE_F32, Int64(lanes[inner == .first ? 1 : 0]), Int64(rows[inner == .both ? 0 : 1]),
        Int64(max(lanes[2], rows[2])), 1, &sources, 2, work, GGML_N_TASKS_MAX, graph.engine.productScratch))
  }

  private static func run(
    _ target: UnsafeMutablePointer<ggml_tensor>?, _ thread: Int32, _ threads: Int32,
    _ scratch: UnsafeMutableRawPointer?, _ inner: Inner, _ rounds: Bool
  ) {
    guard let target, let lanes = target.pointee.src.0.map({ Tensor($0) }),
      let rows = target.pointee.src.1.map({ Tensor($0) }), let out = target.pointee.data, let scratch
    else { return }
    let result = Tensor(target)
    var product = ladder_product()
    product.lanes = UnsafeRawPointer(lanes.pointer.pointee.data)
    product.rows = UnsafeRawPointer(rows.pointer.pointee.data)
    product.out = out.assumingMemoryBound(to: Float.self)
    product.lane_stride = numbers(lanes, 1)
    product.row_stride = numbers(rows, 1)
    product.out_stride = result[0]
    product.count = Int32(result[2])
    product.lane_sharers = Int32(result[2] / lanes[2])
    product.row_sharers = Int32(result[2] / rows[2])
    product.next_lanes = numbers(lanes, 2)
    product.next_rows = numbers(rows, 2)
    product.next_out = result[0] * result[1]
    product.lane_count = Int32(result[0])
    product.row_count = Int32(result[1])
    product.inner = Int32(inner == .first ? lanes[0] : lanes[1])
    product.lanes_are_bf16 = lanes.pointer.pointee.type == GGML_TYPE_BF16 ? 1 : 0
    product.rows_are_bf16 = rows.pointer.pointee.type == GGML_TYPE_BF16 ? 1 : 0
    product.lanes_are_columns = inner == .first ? 0 : 1
    product.rows_are_columns = inner == .both ? 1 : 0
    product.rounds = rounds ? 1 : 0
    ladder_multiply(&product, thread, threads, scratch)
  }

  /// Numbers from one row of a matrix to the next, or from one matrix to the next.
  private static func numbers(_ a: Tensor, _ dimension: Int) -> Int {
    a.stride(dimension) / ggml_type_size(a.pointer.pointee.type)
  }
}

extension Graph {
  /// `W·x` of an F32 or BF16 W, or of several. Shapes: w [k, m, …], x [k, n, …] → [m, n, …]. Nil, here and below, where
  /// `DenseProduct` does not serve.
  /// - Parameter rounds: F32 operands may be rounded to BF16 where that is faster.
  func product(_ w: Tensor, _ x: Tensor, rounds: Bool = false) -> Tensor? { product(w, x, .first, rounds) }

  /// `Wᵀ·y`. Shapes: w [k, m, …], y [m, n, …] → [k, n, …].
  func product(transpose w: Tensor, _ y: Tensor, rounds: Bool = false) -> Tensor? { product(w, y, .second, rounds) }

  /// `Σₙ x·yᵀ`. Shapes: x [k, n, …], y [m, n, …] → [k, m, …].
  func product(sumOver x: Tensor, _ y: Tensor, rounds: Bool = false) -> Tensor? { product(x, y, .both, rounds) }

  private func product(_ lanes: Tensor, _ rows: Tensor, _ inner: DenseProduct.Inner, _ rounds: Bool) -> Tensor? {
    DenseProduct.serves(engine, lanes, rows, inner)
      ? DenseProduct.add(lanes: lanes, rows: rows, inner: inner, rounds: rounds, to: self) : nil
  }
}
