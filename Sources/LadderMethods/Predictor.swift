import LadderBackbone
import LadderCompute
import LadderCore
import LadderData

/// The rows of the model without what was trained, beside a predictor's own.
package enum AloneRows {
  /// The predictor's own are those.
  case same
  /// They come with its own: its readers hand them out.
  case beside
  /// Only from a pass of the model itself.
  case apart
}

/// What predicts: the head's input for whole samples, and for texts that are decoded step by step.
package protocol Predictor: AnyObject {
  var backbone: Backbone { get }
  /// The tapped blocks, 1-based.
  var rungs: [Int] { get }
  /// Whether the model's own activations are what it reads: an activation cache may hold them.
  var keepsActivations: Bool { get }
  /// Where the rows of the model alone come from.
  var alone: AloneRows { get }
  /// - Parameters:
  ///   - maxTokens: the longest sample.
  ///   - cache: of these rungs; only where `keepsActivations`.
  func reader(maxTokens: Int, cache: ActivationCache?) throws -> any RowReader
  /// What llama.cpp applies to the model, where it applies something.
  var adapter: EngineAdapter? { get }
  /// What is added to the head's input while texts are decoded; nil where nothing is.
  /// - Parameter memory: where its steps' results may lie, as others' do.
  func correction(_ memory: GraphMemory) throws -> (any DecoderCorrection)?
}

extension Predictor {
  /// - Parameters:
  ///   - maxTokens: of all texts together.
  ///   - slots: texts at once; fewer where the model takes no more.
  package func decoder(maxTokens: Int, slots: Int) throws -> TextDecoder {
    let forward = try ForwardPass(backbone, rungs: rungs, maxTokens: maxTokens, adapter: adapter)
    let correction = try correction(GraphMemory(backbone.engine))
    return try TextDecoder(forward, slots: min(slots, forward.maxSequences), correction: correction)
  }
}

/// Reads whole samples.
package protocol RowReader: AnyObject {
  /// The head's input at the samples' loss rows, [d, rows]; valid until the next call.
  /// - Parameter alone: called first with the same of the model alone, where the predictor has them `beside` its own.
  func rows(_ samples: [PackedSample], alone: ((Tensor) throws -> Void)?) throws -> Tensor
}

extension RowReader {
  package func rows(_ samples: [PackedSample]) throws -> Tensor { try rows(samples, alone: nil) }
}

/// The model itself, as it is or with an adapter that llama.cpp applies: the method that adds nothing.
package final class BackbonePredictor: Predictor {
  package let backbone: Backbone
  /// Blocks that are read, for a cache to keep, and not used.
  package let rungs: [Int]
  package var keepsActivations: Bool { adapter == nil }
  package var alone: AloneRows { adapter == nil ? .same : .apart }
  package let adapter: EngineAdapter?

  package init(_ backbone: Backbone, rungs: [Int] = [], adapter: EngineAdapter? = nil) {
    self.backbone = backbone
    self.rungs = rungs
    self.adapter = adapter
  }

  package func reader(maxTokens: Int, cache: ActivationCache?) throws -> any RowReader {
    BackboneRows(
      try CachedTaps(backbone, TapNeeds(rungs: rungs), maxTokens: maxTokens, cache: cache, adapter: adapter), backbone)
  }

  package func correction(_ memory: GraphMemory) -> (any DecoderCorrection)? { nil }
}

/// The final norm's rows as the backbone hands them out.
package final class BackboneRows: RowReader {
  private let source: any TapSource
  private let width: Int
  private let pool: TensorPool

  package init(_ source: any TapSource, _ backbone: Backbone) {
    self.source = source
    width = backbone.width
    pool = TensorPool(backbone.engine, tensors: 8 + source.rungs.count)
  }

  package func rows(_ samples: [PackedSample], alone: ((Tensor) throws -> Void)?) throws -> Tensor {
    try pool.reset()
    let final = try pool.make(.float32, [width, samples.reduce(0) { $0 + $1.lossRows.count }])
    let tokens = samples.reduce(0) { $0 + $1.tokens.count }
    let taps = try source.rungs.map { _ in try pool.make(.bfloat16, [width, tokens]) }
    try source.run(samples, taps: taps, final: final)
    return final
  }
}
