import CLlama

/// Reverse-mode differentiation over a graph.
///
/// An operation adds its forward nodes to the graph at once and records how its inputs' gradients follow from its
/// output's; `backward` adds those nodes in reverse order. An operation none of whose inputs is watched records
/// nothing, so the same code serves training and inference.
package final class Tape {
  package let graph: Graph
  private var records: [Record] = []
  private var watched: Set<Tensor> = []
  private var gradients: [Tensor: Tensor] = [:]

  private struct Record {
    let output: Tensor
    let inputs: [Tensor]
    let gradient: (Tensor) -> [Tensor?]
  }

  /// The element type of the operands that backward products round; F32 rounds nothing.
  let products: ElementType
  private let parameters: Parameters?
  private var transposes: [Tensor: Tensor] = [:]
  private let results: KeptResults?
  private let outputIsRead: Bool

  /// - Parameters:
  ///   - parameters: those whose rounded twins enter products in the type `products`.
  ///   - results: where operations that are dear to compute again keep what they give.
  ///   - outputIsRead: false where a function is gone through for its gradient alone: what only its output reads is not
  ///     computed.
  package init(
    _ graph: Graph, parameters: Parameters? = nil, products: ElementType = .float32, results: KeptResults? = nil,
    outputIsRead: Bool = true
  ) {
    self.outputIsRead = outputIsRead
    self.graph = graph
    self.results = results
    self.parameters = parameters
    self.products = products
  }

  /// What stands for a weight in a product.
  func operand(_ weight: Tensor) -> Tensor { parameters?.rounded(weight) ?? weight }

  /// What an operation gives, from the results that were kept where there are any.
  func kept(_ keeps: Bool = true, _ make: () -> Tensor) -> Tensor {
    guard keeps, let results else { return make() }
    return results.result(graph, make)
  }

  /// Whether products are kept where keeping them is a choice.
  package var keepsProducts: Bool { results?.keepsProducts ?? false }

  /// What stands for a result of the same shape that nobody reads.
  func unread(_ standIn: Tensor?) -> Tensor? { outputIsRead ? nil : standIn.map(graph.leaf) }

  /// `aᵀ`, contiguous, in the products' element type: the first operand of a backward product.
  ///
  /// Made once for each tensor: queries, keys and values are products of one input.
  func transposedOperand(_ a: Tensor) -> Tensor {
    if let made = transposes[a] { return made }
    let made = graph.transposed(a, as: products)
    transposes[a] = made
    return made
  }

  /// Asks for the gradient with respect to `tensor`.
  package func watch(_ tensor: Tensor) { watched.insert(tensor) }

  package func needs(_ tensor: Tensor) -> Bool { watched.contains(tensor) }

  /// Records an operation; `gradient` maps the output's gradient to one per input, nil where `needs` is false.
  func record(_ output: Tensor, _ inputs: [Tensor], gradient: @escaping (Tensor) -> [Tensor?]) -> Tensor {
    guard inputs.contains(where: needs) else { return output }
    watched.insert(output)
    records.append(Record(output: output, inputs: inputs, gradient: gradient))
    return output
  }

  /// Adds the gradient nodes of everything recorded, from `output`'s gradient back to the watched tensors.
  package func backward(from output: Tensor, gradient: Tensor) {
    accumulate(gradient, for: output)
    for record in records.reversed() {
      guard let gradient = gradients[record.output] else { continue }
      for (input, part) in zip(record.inputs, record.gradient(gradient)) {
        if let part, needs(input) { accumulate(part, for: input) }
      }
    }
    records = []
  }

  /// The gradient with respect to a watched tensor, once `backward` ran; nil where nothing depends on it.
  package func gradient(of tensor: Tensor) -> Tensor? { gradients[tensor] }

  private func accumulate(_ part: Tensor, for tensor: Tensor) {
    gradients[tensor] = gradients[tensor].map { graph.add($0, part) } ?? part
  }
}
