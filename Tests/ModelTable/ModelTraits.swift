import LadderBackbone

/// What sets a model's blocks apart, read from its file.
struct ModelTraits {
  let text: String

  init(_ file: GGUFFile) {
    let names = file.tensors.map(\.name)
    func has(_ parts: String...) -> Bool { names.contains { name in parts.contains(where: name.contains) } }
    var traits: [String] = []
    if has("_exps") { traits.append(has("_shexp") ? "experts, a shared one" : "experts") }
    if has("attn_kv_a") { traits.append("latent attention") }
    if has("indexer") { traits.append("an indexer") }
    if has("ssm_", "time_mix", "shortconv") {
      traits.append(has("attn_k", "attn_qkv") ? "states and attention" : "states")
    }
    if file.own("attention.sliding_window") != nil { traits.append("sliding window") }
    if has("attn_qkv") { traits.append("fused queries, keys and values") }
    if has("position_embd") { traits.append("learned positions") }
    if has("hc_") { traits.append("several residual streams") }
    if names.contains(where: { $0.hasPrefix("blk.") && $0.hasSuffix(".bias") }) { traits.append("biases") }
    if !names.contains("output.weight") { traits.append("tied head") }
    text = traits.joined(separator: ", ")
  }
}
