import CLlama
import Foundation
import LadderCompute
import LadderCore

/// Vectors of whole texts, from models that were trained to give them: their metadata say how the rows of a text become
/// one (`pooling_type`).
package final class TextEmbedder {
  /// Numbers of a vector.
  package let width: Int
  /// Tokens of a text at most.
  package let maxTokens: Int
  private let engine: Engine
  private let context: OpaquePointer
  private let owner: ModelOwner
  private var batch: llama_batch

  /// - Returns: nil for a model that gives none.
  /// - Throws: `engine` where there is no memory for it.
  package static func make(_ backbone: Backbone, maxTokens: Int) throws -> TextEmbedder? {
    let pooling = backbone.file.integer("\(backbone.file.architecture).pooling_type") ?? 0
    // 1 to 3: mean, first, last. A ranking model's is another thing.
    return (1...3).contains(pooling) ? try TextEmbedder(backbone, maxTokens: maxTokens) : nil
  }

  private init(_ backbone: Backbone, maxTokens: Int) throws {
    engine = backbone.engine
    width = backbone.width
    self.maxTokens = maxTokens
    owner = try backbone.join(blocks: .max)
    var parameters = llama_context_default_params()
    parameters.n_ctx = UInt32(maxTokens)
    // A text has to lie in one call, or its rows cannot be pooled.
    parameters.n_batch = UInt32(maxTokens)
    parameters.n_ubatch = UInt32(maxTokens)
    parameters.n_seq_max = 1
    parameters.n_threads = Int32(engine.threads)
    parameters.n_threads_batch = Int32(engine.threads)
    parameters.embeddings = true
    parameters.no_perf = true
    engine.products?.attach(to: &parameters)
    Log.clearError()
    guard let context = llama_init_from_model(owner.model, parameters) else {
      owner.leave(blocks: .max)
      throw LadderError(.engine, "no memory to embed texts of \(maxTokens) tokens (\(Log.takeError()))")
    }
    self.context = context
    llama_attach_threadpool(context, engine.threadpool, engine.threadpool)
    batch = llama_batch_init(Int32(maxTokens), 0, 1)
  }

  deinit {
    llama_batch_free(batch)
    llama_free(context)
    owner.leave(blocks: .max)
  }

  /// A text's vector of length 1.
  /// - Throws: `usage` for a text without a token, or with more than fit.
  package func vector(_ tokens: [Int32]) throws -> [Float] {
    guard (1...maxTokens).contains(tokens.count) else {
      throw LadderError(.usage, "a text has \(tokens.count) tokens; 1 to \(maxTokens) can be embedded")
    }
    return try engine.inTurn {
      llama_memory_clear(llama_get_memory(context), true)
      for (place, token) in tokens.enumerated() {
        batch.token[place] = token
        batch.pos[place] = Int32(place)
        batch.n_seq_id[place] = 1
        batch.seq_id[place]?[0] = 0
        batch.logits[place] = 1
      }
      batch.n_tokens = Int32(tokens.count)
      engine.products?.begin()
      guard llama_decode(context, batch) == 0, let row = llama_get_embeddings_seq(context, 0) else {
        throw LadderError(.engine, "the text could not be embedded")
      }
      let vector = Array(UnsafeBufferPointer(start: row, count: width))
      let length = vector.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
      return length > 0 ? vector.map { Float(Double($0) / length) } : vector
    }
  }
}
