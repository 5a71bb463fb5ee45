import CLlama
import Foundation
import LadderCompute
import LadderCore

/// What a head is, apart from its weights: enough to read it from the file without running the model.
package struct HeadDescription: Codable, Sendable, Equatable {
  /// The weight's name in the file.
  package var tensor: String
  package var inner: Float
  package var outer: Float
  package var capped: Bool

  init(tensor: String, inner: Float, outer: Float, capped: Bool) {
    self.tensor = tensor
    self.inner = inner
    self.outer = outer
    self.capped = capped
  }

  /// A head whose logits are W·x times `scale`.
  package init(tensor: String, scale: Float = 1) { self.init(tensor: tensor, inner: 1, outer: scale, capped: false) }
}

/// The frozen output head: logits = f(W·x), with W quantised as the file has it and f the model's own logit scale or
/// soft-cap.
///
/// W and f are read off the graph that llama.cpp builds for one token, so that every architecture's own rule is
/// followed.
package struct Head: @unchecked Sendable {
  /// [width, vocabulary], quantised; it may be the embedding (tied).
  package let weight: Tensor
  /// f(z) = outer·tanh(inner·z) where there is a soft-cap, else outer·z.
  package let inner: Float
  package let outer: Float
  package let capped: Bool
  /// Keeps the weights alive: the model, or the memory that they alone were read into.
  let owner: AnyObject

  package var width: Int { weight[0] }
  package var vocabulary: Int { weight[1] }

  /// Adds the logits' nodes. Shapes: x [width, rows] → [vocabulary, rows].
  package func logits(_ graph: Graph, _ x: Tensor) -> Tensor { curve(graph, graph.matmul(frozen: weight, x)) }

  /// The logits of some entries alone. Shapes: ids I32 [n], x [width, rows] → [n, rows].
  package func logits(_ graph: Graph, _ x: Tensor, of ids: Tensor) -> Tensor {
    curve(graph, graph.matmul(graph.rows(of: weight, ids), x))
  }

  package func curve(_ graph: Graph, _ products: Tensor) -> Tensor {
    var logits = products
    if capped {
      if inner != 1 { logits = graph.scaleInPlace(logits, inner) }
      logits = graph.tanhInPlace(logits)
    }
    return outer == 1 ? logits : graph.scaleInPlace(logits, outer)
  }

  /// f′ at the logit `l`: turns dL/dl into dL/dz.
  package func slope(atLogit l: Float) -> Float {
    if !capped { return outer }
    let share = l / outer  // tanh(inner·z)
    return inner * outer * (1 - share * share)
  }

  /// f(z), f⁻¹(l) for logits within the cap, and f's steepest slope.
  package func logit(atProduct z: Double) -> Double {
    capped ? Double(outer) * tanh(Double(inner) * z) : Double(outer) * z
  }
  package func product(atLogit l: Double) -> Double {
    capped ? atanh(min(1 - 1e-9, max(-1 + 1e-9, l / Double(outer)))) / Double(inner) : l / Double(outer)
  }
  package var steepest: Double { capped ? Double(inner * outer) : Double(outer) }

  /// Loss rows of one call of the engine, which sets aside V logits for each though none is computed: at most 128 MB.
  package var rowsPerCall: Int { Head.rowsPerCall(vocabulary: vocabulary) }

  package static func rowsPerCall(vocabulary: Int) -> Int { max(1, min(128, (128 << 20) / (4 * vocabulary))) }

  package var description: HeadDescription {
    HeadDescription(tensor: String(cString: ggml_get_name(weight.pointer)), inner: inner, outer: outer, capped: capped)
  }

  // MARK: - Reading it alone

  /// Reads the head's weights from the file into the engine's memory, and nothing else of the model.
  static func load(_ description: HeadDescription, _ file: GGUFFile, _ engine: Engine) throws -> Head {
    guard let info = file.tensors.first(where: { $0.name == description.tensor }), info.shape.count == 2 else {
      throw LadderError(
        .data, "\(file.path) has no head \(description.tensor), though its cache says so; remove the cache")
    }
    let pool = TensorPool(engine, tensors: 4)
    let weight = try file.load(info, into: pool)
    return Head(
      weight: weight, inner: description.inner, outer: description.outer, capped: description.capped, owner: pool)
  }
}
