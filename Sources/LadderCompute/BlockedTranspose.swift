import CLlama

/// `aᵀ` of F32 and BF16 matrices on the CPU, a tile at a time.
///
/// ggml's copy of a transposed view walks down whole columns, one number at a time: at widths of a power of two each
/// number is a cache line of its own and the lines push each other out. Attention's gradient transposes every block of
/// probabilities.
enum BlockedTranspose {
  /// Whether this is for the tensor: neighbours next to each other in its first dimension, on the CPU.
  static func serves(_ a: Tensor, _ engine: Engine) -> Bool {
    let type = a.pointer.pointee.type
    guard engine.isCPU, type == GGML_TYPE_F32 || type == GGML_TYPE_BF16 else { return false }
    return a.stride(0) == ggml_type_size(type) && a[3] == 1 && a[0] >= side && a[1] >= side
  }

  /// Adds the node. Shapes: a [k, n, b] → [n, k, b], contiguous.
  static func add(_ a: Tensor, to graph: Graph) -> Tensor {
    var sources: [UnsafeMutablePointer<ggml_tensor>?] = [a.pointer]
    let node = ggml_custom_4d(
      graph.context, a.pointer.pointee.type, Int64(a[1]), Int64(a[0]), Int64(a[2]), 1, &sources, 1,
      { target, thread, threads, _ in
        if let target { BlockedTranspose.fill(Tensor(target), thread: Int(thread), of: Int(threads)) }
      }, GGML_N_TASKS_MAX, nil)
    return graph.add(node)
  }

  private static let side = 32

  private static func fill(_ target: Tensor, thread: Int, of threads: Int) {
    guard let source = target.pointer.pointee.src.0.map({ Tensor($0) }), let from = source.pointer.pointee.data,
      let to = target.pointer.pointee.data
    else { return }
    let width = source[0], height = source[1]
    let across = (width + side - 1) / side
    let tiles = across * ((height + side - 1) / side)
    for matrix in 0..<source[2] {
      let own = UnsafeRawPointer(from) + matrix * source.stride(2)
      let result = to + matrix * target.stride(2)
      for tile in (tiles * thread / threads)..<(tiles * (thread + 1) / threads) {
        // Tiles run down the target's rows.
        let column = tile % across * side, row = tile / across * side
        let columns = column..<min(column + side, width)
        let rows = row..<min(row + side, height)
        if target.stride(0) == 4 {
          transpose(UInt32.self, own, source.stride(1), result, target.stride(1), columns, rows)
        } else {
          transpose(UInt16.self, own, source.stride(1), result, target.stride(1), columns, rows)
        }
      }
    }
  }

  /// Source rows `rows` and columns `columns`, in fours where there are four.
  @inline(__always)
  private static func transpose<Number: SIMDScalar & BitwiseCopyable>(
    _ type: Number.Type, _ source: UnsafeRawPointer, _ sourceStride: Int, _ target: UnsafeMutableRawPointer,
    _ targetStride: Int, _ columns: Range<Int>, _ rows: Range<Int>
  ) {
    typealias Four = SIMD4<Number>
    let size = MemoryLayout<Number>.size
    func copy(_ column: Int, _ row: Int) {
      let value = (source + row * sourceStride + size * column).load(as: Number.self)
      (target + column * targetStride + size * row).storeBytes(of: value, as: Number.self)
    }
    var column = columns.lowerBound
    while column + 4 <= columns.upperBound {
      var row = rows.lowerBound
      while row + 4 <= rows.upperBound {
        let from = source + row * sourceStride + size * column
        let to = target + column * targetStride + size * row
        let first = from.loadUnaligned(as: Four.self)
        let second = (from + sourceStride).loadUnaligned(as: Four.self)
        let third = (from + 2 * sourceStride).loadUnaligned(as: Four.self)
        let fourth = (from + 3 * sourceStride).loadUnaligned(as: Four.self)
        for i in 0..<4 {
          (to + i * targetStride).storeBytes(of: Four(first[i], second[i], third[i], fourth[i]), as: Four.self)
        }
        row += 4
      }
      for row in row..<rows.upperBound { for i in column..<(column + 4) { copy(i, row) } }
      column += 4
    }
    for column in column..<columns.upperBound { for row in rows { copy(column, row) } }
  }
}
