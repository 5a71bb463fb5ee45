import CKernels
import CLlama

/// Products of frozen, quantised weights with rows that are rounded to 8 bits as ggml rounds them, on a CPU with
/// instructions for sums of bytes' products: the same sums as ggml's, by kernels that reach two to four times its speed.
///
/// ggml's own threads share the work.
enum QuantisedProduct {
  /// The weight's type, where this is for such a product and the faster way.
  static func type(_ engine: Engine, _ weight: Tensor, _ x: Tensor) -> ladder_quantisation? {
    let type = weight.pointer.pointee.type
    guard engine.multipliesWell(frozen: weight), x.pointer.pointee.type == GGML_TYPE_F32, x.stride(0) == 4,
      x[2] * x[3] == 1
    else { return nil }
    return ladder_quantisation(rawValue: type.rawValue)
  }

  static func serves(_ type: ggml_type, inner: Int) -> Bool {
    ladder_multiplies_quantised(Int32(type.rawValue), Int32(inner)) != 0
  }

  /// Whether its rows lie in memory as in a file; ggml packs some for kernels of its own.
  static func isPlain(_ weight: Tensor) -> Bool {
    guard let buffer = weight.pointer.pointee.buffer ?? weight.pointer.pointee.view_src?.pointee.buffer else {
      return false
    }
    return ggml_backend_buffer_is_host(buffer) && weight.pointer.pointee.extra == nil
  }

  /// Adds the rounding of the rows for weights of a type. Shapes: x [k, n] → I8 [bytes, n].
  static func round(_ x: Tensor, for type: ladder_quantisation, to graph: Graph) -> Tensor {
    var sources: [UnsafeMutablePointer<ggml_tensor>?] = [x.pointer]
    return graph.add(
      ggml_custom_4d(
        graph.context, GGML_TYPE_I8, Int64(ladder_quantised_bytes(Int32(x[0]))), Int64(x[1]), 1, 1, &sources, 1,
        { target, thread, threads, type in QuantisedProduct.round(target, thread, threads, UInt(bitPattern: type)) },
        GGML_N_TASKS_MAX, UnsafeMutableRawPointer(bitPattern: UInt(type.rawValue))))
  }

  private static func round(
    _ target: UnsafeMutablePointer<ggml_tensor>?, _ thread: Int32, _ threads: Int32, _ type: UInt
  ) {
    guard let target, let x = target.pointee.src.0.map({ Tensor($0) }), let rows = x.pointer.pointee.data else {
      return
    }
    ladder_quantise_rows(
      rows.assumingMemoryBound(to: Float.self), x.stride(1) / 4, Int32(x[1]), Int32(x[0]),
      ladder_quantisation(rawValue: UInt32(type)), target.pointee.data, thread, threads)
  }

  /// Adds the product with rows that were rounded for the weight's type. Shapes: weight [k, m], rows [bytes, n] →
  /// [m, n].
  static func add(_ weight: Tensor, rounded rows: Tensor, to graph: Graph) -> Tensor {
    var sources: [UnsafeMutablePointer<ggml_tensor>?] = [weight.pointer, rows.pointer]
    return graph.add(
      ggml_custom_4d(
        graph.context, GGML_TYPE_F32, Int64(weight[1]), Int64(rows[1]), 1, 1, &sources, 2,
        { QuantisedProduct.run($0, $1, $2, $3) }, GGML_N_TASKS_MAX, graph.engine.productScratch))
  }

  private static func run(
    _ target: UnsafeMutablePointer<ggml_tensor>?, _ thread: Int32, _ threads: Int32, _ scratch: UnsafeMutableRawPointer?
  ) {
    guard let target, let weight = target.pointee.src.0.map({ Tensor($0) }),
      let rows = target.pointee.src.1.map({ Tensor($0) }), let out = target.pointee.data, let scratch
    else { return }
    var product = product(weight, rounded: rows.pointer.pointee.data, count: rows[1], out)
    ladder_quantised_multiply(&product, thread, threads, scratch)
  }

  /// - Parameters:
  ///   - rows: `count` of them, in 8 bits.
  ///   - out: F32 [m, count].
  static func product(
    _ weight: Tensor, rounded rows: UnsafeRawPointer?, count: Int, _ out: UnsafeMutableRawPointer
  ) -> ladder_quantised_product {
    ladder_quantised_product(
      weights: weight.pointer.pointee.data, weight_stride: weight.stride(1), rows: rows,
      out: out.assumingMemoryBound(to: Float.self), out_stride: weight[1], entries: Int32(weight[1]),
      row_count: Int32(count), inner: Int32(weight[0]),
      type: ladder_quantisation(rawValue: weight.pointer.pointee.type.rawValue))
  }
}

extension Engine {
  /// Whether this processor has kernels of ours for a frozen matrix where it lies.
  package func multipliesWell(frozen weight: Tensor) -> Bool {
    usesQuantisedProducts && weight[2] * weight[3] == 1
      && QuantisedProduct.serves(weight.pointer.pointee.type, inner: weight[0]) && QuantisedProduct.isPlain(weight)
  }

  /// The same by its type's name and its rows' width, on a CPU.
  package static func multipliesWell(type: String, inner: Int) -> Bool {
    (0..<GGML_TYPE_COUNT.rawValue).map(ggml_type.init(rawValue:)).contains {
      ggml_type_name($0).map { String(cString: $0).uppercased() } == type.uppercased()
        && QuantisedProduct.serves($0, inner: inner)
    }
  }
}

extension Graph {
  /// `W·x` of a frozen W in any element type. Shapes: weight [k, m], x [k, n] → [m, n].
  package func matmul(frozen weight: Tensor, _ x: Tensor) -> Tensor { matmul(frozen: weight, input(x, for: weight)) }

  /// `x` [k, n] as the products of a frozen matrix take it: for those of its ranges of rows, one after another.
  package func input(_ x: Tensor, for weight: Tensor) -> FrozenInput {
    guard let type = QuantisedProduct.type(engine, weight, x) else { return .plain(x) }
    return .rounded(QuantisedProduct.round(x, for: type, to: self))
  }

  package func matmul(frozen weight: Tensor, _ input: FrozenInput) -> Tensor {
    switch input {
    case .plain(let x): matmul(weight, x)
    case .rounded(let rows): QuantisedProduct.add(weight, rounded: rows, to: self)
    }
  }
}

/// What a frozen matrix is multiplied with.
package enum FrozenInput {
  case plain(Tensor)
  /// In 8 bits, for a matrix of one type.
  case rounded(Tensor)
}
