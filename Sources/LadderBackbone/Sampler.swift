import CLlama
import LadderCompute

/// Chooses the next token from logits, by llama.cpp's own samplers.
package final class Sampler {
  private let chain: UnsafeMutablePointer<llama_sampler>
  private let isGreedy: Bool
  private var candidates: [llama_token_data] = []

  /// - Parameters:
  ///   - temperature: 0 takes the likeliest token.
  ///   - topP: the likeliest tokens that together reach this probability are kept.
  package init(temperature: Float, topP: Float, seed: UInt32) {
    chain = llama_sampler_chain_init(llama_sampler_chain_default_params())
    isGreedy = temperature <= 0
    if !isGreedy {
      // Everything below the thousand likeliest tokens is noise, and sorting a whole vocabulary takes longer than a
      // step.
      llama_sampler_chain_add(chain, llama_sampler_init_top_k(1000))
      if topP < 1 { llama_sampler_chain_add(chain, llama_sampler_init_top_p(topP, 1)) }
      llama_sampler_chain_add(chain, llama_sampler_init_temp(temperature))
      llama_sampler_chain_add(chain, llama_sampler_init_dist(seed))
    }
  }

  deinit { llama_sampler_free(chain) }

  package func sample(_ logits: [Float]) -> Int32 {
    if isGreedy { return Int32(likeliest(logits)) }
    if candidates.count != logits.count {
      candidates = [llama_token_data](repeating: llama_token_data(), count: logits.count)
    }
    for (token, logit) in logits.enumerated() {
      candidates[token] = llama_token_data(id: Int32(token), logit: logit, p: 0)
    }
    return candidates.withUnsafeMutableBufferPointer { buffer in
      var list = llama_token_data_array(data: buffer.baseAddress, size: buffer.count, selected: -1, sorted: false)
      llama_sampler_apply(chain, &list)
      return list.selected >= 0 ? list.data[Int(list.selected)].id : 0
    }
  }

  /// The first of the largest.
  private func likeliest(_ logits: [Float]) -> Int {
    var best = 0
    for token in logits.indices where logits[token] > logits[best] { best = token }
    return best
  }
}
