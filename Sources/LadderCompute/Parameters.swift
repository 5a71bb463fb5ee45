import CLlama

/// Trainable tensors in F32, laid one after another in flat buffers, so that the optimiser, clipping and saving work on
/// whole buffers. Matrices, which weight decay shrinks, and vectors, which it does not, are two groups. Where nothing is
/// trained, matrices are held as they enter products alone.
package final class Parameters {
  package struct Specification: Sendable, Equatable {
    package var name: String
    /// ggml's order, fastest first.
    package var shape: [Int]
    package var decays: Bool
    package var count: Int { shape.reduce(1, *) }

    package init(_ name: String, _ shape: [Int], decays: Bool = true) {
      self.name = name
      self.shape = shape
      self.decays = decays
    }
  }

  /// One flat buffer of parameters and the buffer of their gradients.
  package struct Group {
    package let decays: Bool
    package let values: Tensor
    package let gradients: Tensor?
    /// The values rounded to the products' element type; nil where products take the values themselves.
    package let rounded: Tensor?
  }

  /// Where a parameter lies: its group, and its numbers there.
  package struct Place: Sendable, Equatable {
    package let group: Int
    package let numbers: Range<Int>

    package init(group: Int, numbers: Range<Int>) {
      self.group = group
      self.numbers = numbers
    }
  }

  package let specifications: [Specification]
  package private(set) var groups: [Group] = []
  private var tensors: [String: Tensor] = [:]
  private var gradientTensors: [String: Tensor] = [:]
  private var roundedTensors: [Tensor: Tensor] = [:]
  private var places: [String: Place] = [:]
  private let context: OpaquePointer
  private let pool: TensorPool

  /// - Parameter products: the element type in which matrices enter products; with one other than F32 call `round`
  ///   after every change of what is trained.
  package init(_ specifications: [Specification], _ engine: Engine, trainable: Bool, products: ElementType = .float32)
    throws
  {
    self.specifications = specifications
    pool = TensorPool(engine, tensors: 16)
    context = ggml_init(
      ggml_init_params(
        mem_size: ggml_tensor_overhead() * (3 * specifications.count + 8), mem_buffer: nil, no_alloc: true))
    for decays in [true, false] {
      let members = specifications.filter { $0.decays == decays }
      if members.isEmpty { continue }
      // Rows, so that threads share the optimiser's work.
      let row = 1024
      let total = members.reduce(0) { $0 + Self.padded($1.count) }
      let shape = [row, (total + row - 1) / row]
      let values = try pool.make(decays && !trainable ? products : .float32, shape)
      values.zero()
      let gradients = trainable ? try pool.make(.float32, shape) : nil
      gradients?.zero()
      let rounded = trainable && decays && products != .float32 ? try pool.make(products, shape) : nil
      var offset = 0
      for member in members {
        tensors[member.name] = alias(values, member.shape, at: offset)
        places[member.name] = Place(group: groups.count, numbers: offset..<(offset + member.count))
        if let gradients { gradientTensors[member.name] = alias(gradients, member.shape, at: offset) }
        if let rounded, let master = tensors[member.name] {
          roundedTensors[master] = alias(rounded, member.shape, at: offset)
        }
        offset += Self.padded(member.count)
      }
      groups.append(Group(decays: decays, values: values, gradients: gradients, rounded: rounded))
    }
  }

  deinit { ggml_free(context) }

  package subscript(name: String) -> Tensor {
    guard let tensor = tensors[name] else { preconditionFailure("no parameter \(name)") }
    return tensor
  }

  /// Whether there are twins that `round` brings up to date.
  package var hasTwins: Bool { groups.contains { $0.rounded != nil } }

  /// The tensor that stands for a parameter in products: its rounded twin, or itself.
  package func rounded(_ parameter: Tensor) -> Tensor { roundedTensors[parameter] ?? parameter }

  /// Rounds every matrix anew, as the first nodes of a graph.
  package func round(_ graph: Graph) {
    for group in groups { if let rounded = group.rounded { graph.store(group.values, in: rounded) } }
  }

  package func gradient(_ name: String) -> Tensor? { gradientTensors[name] }

  /// Trainable numbers, padding not counted.
  package var count: Int { specifications.numbers }

  package func place(_ name: String) -> Place? { places[name] }

  package func zeroGradients() { for group in groups { group.gradients?.zero() } }

  /// Adds each watched parameter's gradient on the tape to its gradient buffer.
  package func accumulateGradients(_ names: [String], from tape: Tape) {
    for name in names {
      guard let part = tape.gradient(of: self[name]), let target = gradient(name) else { continue }
      _ = tape.graph.addInPlace(target, part.shape == target.shape ? part : tape.graph.reshape(part, target.shape))
    }
  }

  /// Every device wants tensors to start at a multiple of 128 bytes.
  private static func padded(_ count: Int) -> Int { (count + 31) / 32 * 32 }

  private func alias(_ flat: Tensor, _ shape: [Int], at offset: Int) -> Tensor {
    let dimensions = shape.map(Int64.init)
    let type = flat.pointer.pointee.type
    guard let pointer = ggml_new_tensor(context, type, Int32(dimensions.count), dimensions),
      let buffer = flat.pointer.pointee.buffer, let data = flat.pointer.pointee.data
    else { preconditionFailure("parameter buffer not allocated") }
    ggml_backend_tensor_alloc(buffer, pointer, data + offset * ggml_type_size(type))
    return Tensor(pointer)
  }
}

extension Sequence<Parameters.Specification> {
  /// Numbers in all of them together.
  package var numbers: Int { reduce(0) { $0 + $1.count } }
}
