import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore

/// The oracle: llama.cpp's own logits, computed the ordinary way, with nothing of Ladder's in between but the kernels of
/// `EngineProducts`, which are held against llama.cpp's apart: sums in another order round activations to other bytes.
package final class ReferenceLogits {
  private let context: OpaquePointer
  private let vocabulary: Int
  private let products: EngineProducts?

  /// - Parameter exactAttention: keys, values and attention in F32.
  package init(_ backbone: Backbone, maxTokens: Int, exactAttention: Bool = false) throws {
    products = backbone.engine.products
    var parameters = llama_context_default_params()
    parameters.n_ctx = UInt32((maxTokens + 255) / 256 * 256)
    parameters.n_batch = UInt32(max(512, maxTokens))
    parameters.n_threads = Int32(backbone.engine.threads)
    parameters.n_threads_batch = Int32(backbone.engine.threads)
    if exactAttention {
      parameters.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED
      parameters.type_k = GGML_TYPE_F32
      parameters.type_v = GGML_TYPE_F32
    }
    products?.attach(to: &parameters)
    guard let context = llama_init_from_model(try backbone.enginePointer(), parameters) else {
      throw LadderError(.engine, "no reference context")
    }
    self.context = context
    vocabulary = backbone.vocabulary
  }

  deinit { llama_free(context) }

  /// ln p of `targets[i]` after row `rows[i]`.
  package func logProbabilities(_ tokens: [Int32], rows: [Int], targets: [Int32]) throws -> [Double] {
    llama_memory_clear(llama_get_memory(context), true)
    var batch = llama_batch_init(Int32(tokens.count), 0, 1)
    defer { llama_batch_free(batch) }
    batch.n_tokens = Int32(tokens.count)
    let flagged = Set(rows)
    for (i, token) in tokens.enumerated() {
      batch.token[i] = token
      batch.pos[i] = Int32(i)
      batch.n_seq_id[i] = 1
      batch.seq_id[i]?[0] = 0
      batch.logits[i] = flagged.contains(i) ? 1 : 0
    }
    products?.begin()
    guard llama_decode(context, batch) == 0 else { throw LadderError(.engine, "the reference forward failed") }
    return try zip(rows, targets).map { row, target in
      guard let logits = llama_get_logits_ith(context, Int32(row)) else {
        throw LadderError(.engine, "no reference logits")
      }
      let l = UnsafeBufferPointer(start: logits, count: vocabulary), most = Double(l.max() ?? 0)
      return Double(l[Int(target)]) - most - log(l.reduce(0.0) { $0 + exp(Double($1) - most) })
    }
  }
}

extension Backbone {
  /// The model where llama.cpp's attention is in F32 once that is asked for: ggml's Vulkan backend rounds its keys to
  /// half precision all the same.
  package func withExactAttention() throws -> Backbone {
    testDevice.hasPrefix("Vulkan") ? try Backbone(path: path, threads: 2, device: "CPU") : self
  }
}

extension EngineProducts {
  /// Has a context ask for each of its operations, where nothing else is asked.
  fileprivate func attach(to parameters: inout llama_context_params) {
    parameters.cb_eval_user_data = Unmanaged.passUnretained(self).toOpaque()
    parameters.cb_eval = { node, asks, own in
      if asks, let node, let own { Unmanaged<EngineProducts>.fromOpaque(own).takeUnretainedValue().take(node) }
      return false
    }
  }
}
