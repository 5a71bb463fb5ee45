/// A tiny model of each architecture that llama.cpp names.
package enum Architectures {
  package static let all = dense + experts + recurrent + others

  package static func named(_ name: String) -> TinyArchitecture? { all.first { $0.name == name } }

  /// Norms, attention and a feed-forward network in each block.
  static let dense: [TinyArchitecture] = [
    .init("llama", lacks: [".bias", "rope_freqs"]),
    .init("llama", "tied head, biases, no grouping", [], ["attention.head_count_kv": 4], lacks: ["output.weight"]),
    .init(
      "apertus", nil, [], ["xielu.alpha_n": 0.8, "xielu.alpha_p": 0.8, "xielu.beta": 0.5, "xielu.eps": .number(-1e-6)]),
    .init("arcee"), .init("baichuan", nil, [], ["attention.head_count_kv": 4]), .init("bitnet"),
    .init("bloom", nil, [], ["attention.head_count_kv": 4]), .init("chameleon", nil, [], ["vocab_size": 10240]),
    .init("chatglm"), .init("codeshell"), .init("cogvlm", nil, [], ["attention.head_count_kv": 4]),
    .init("cohere2", nil, [.window], ["logit_scale": 0.5]), .init("command-r", nil, [], ["logit_scale": 0.5]),
    .init("deci"), .init("ernie4_5"), .init("exaone"), .init("exaone4"), .init("falcon"), .init("gemma"),
    .init("gemma2", nil, [.window], ["final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0]),
    .init("gemma3", nil, [.window], ["attention.key_length": 32, "attention.value_length": 32]),
    .init(
      "gemma3n", nil, [.window],
      [
        "block_count": 22, "embedding_length": 64, "attention.head_count": 2, "attention.head_count_kv": 1,
        "feed_forward_length": 96, "embedding_length_per_layer_input": 32,
      ]),
    .init(
      "gemma4", nil, [],
      [
        "block_count": 6, "embedding_length_per_layer_input": 64, "attention.shared_kv_layers": 0,
        "attention.key_length": 32, "attention.value_length": 32, "attention.key_length_swa": 32,
        "attention.value_length_swa": 32, "rope.freq_base_swa": 10000.0, "attention.sliding_window": 16,
        "attention.sliding_window_pattern": [1, 1, 0, 1, 1, 0],
      ]),
    .init("glm4"), .init("gpt2", nil, [], ["attention.head_count_kv": 4]),
    .init("gptneox", "parallel", [], ["attention.head_count_kv": 4]),
    .init("gptneox", "sequential", [], ["attention.head_count_kv": 4, "use_parallel_residual": false]),
    .init(
      "granite", nil, [],
      ["logit_scale": 4.0, "embedding_scale": 3.0, "residual_scale": 0.5, "attention.scale": 0.25],
      lacks: [".bias", "rope_freqs"]),
    .init("granite_swa", nil, [.windowList], ["logit_scale": 4.0]),
    .init(
      "graniteswitch", nil, [],
      [
        "logit_scale": 4.0, "adapters.count": 2, "adapters.token_ids_activate": [300, 301],
        "adapters.token_ids_substitute": [5, 6], "adapters.lora_rank": 4,
      ]),
    .init(
      "hrm_text", nil, [],
      ["block_count": 6, "hrm.layers_per_stack": 1, "hrm.h_cycles": 2, "hrm.l_cycles": 2]),
    .init("hunyuan-dense"), .init("hunyuan_vl"), .init("internlm2"),
    .init("jais", nil, [], ["attention.head_count_kv": 4]), .init("jais2"), .init("maincoder"), .init("minicpm"),
    .init("minicpm3", nil, [.latent], ["attention.head_count_kv": 4]),
    .init("mistral3", lacks: [".bias", "rope_freqs"]),
    .init("mpt", nil, [], ["attention.head_count_kv": 4]),
    .init("muse-glimmer", nil, [.windowList], ["logit_scale": 0.5]), .init("nanbeige"),
    .init("nanbeige", "two loops", [], ["num_loops": 2]), .init("nemotron"), .init("olmo"),
    .init("olmo2"), .init("olmo2", "sliding window", [.window]),
    .init(
      "openelm", nil, [],
      [
        "attention.head_count_kv": [2, 2, 4, 4], "attention.head_count": [4, 4, 4, 4],
        "feed_forward_length": [192, 192, 256, 256], "attention.key_length": 32, "attention.value_length": 32,
      ]), .init("orion"),
    .init("paddleocr"), .init("pangu-embedded"), .init("phi2"),
    .init("phi3", lacks: ["rope_factors", ".bias"], fusesAttention: true),
    .init("plamo"), .init("plamo3", nil, [.window]),
    .init(
      "plm", nil, [.latent], ["attention.head_count_kv": 4, "attention.key_length": 64, "attention.value_length": 32]),
    .init("qwen", nil, [], ["attention.head_count_kv": 4, "feed_forward_length": 384]),
    .init("qwen2", lacks: ["output.bias"]),
    .init("qwen2vl"), .init("qwen3"), .init("qwen3vl"), .init("refact"), .init("seed_oss"), .init("smollm3"),
    .init("spark2_5", nil, [.windowList]), .init("stablelm"), .init("starcoder"), .init("starcoder2"),
    .init("talkie", nil, [], ["logit_scale": 0.5]), .init("xverse"),
  ]

  /// A choice of experts in some or all blocks.
  static let experts: [TinyArchitecture] = [
    .init("llama", "experts", [.experts]), .init("afmoe", nil, [.experts, .window]), .init("arctic", nil, [.experts]),
    .init("bailingmoe", nil, [.experts]), .init("bailingmoe2", nil, [.experts]),
    .init("cohere2moe", nil, [.experts, .windowList], ["logit_scale": 0.5]), .init("dbrx", nil, [.experts]),
    .init("deepseek", nil, [.experts], ["attention.head_count_kv": 4]),
    .init("deepseek2", nil, [.experts, .latent]),
    .init("deepseek2-ocr", nil, [.experts], ["attention.head_count_kv": 4]),
    .init("deepseek32", nil, [.experts, .latent, .indexer]),
    .init("dots1", nil, [.experts], ["attention.head_count_kv": 4]),
    .init(
      "dots3note", nil, [.experts, .latent, .indexer, .windowList],
      [
        "attention.kv_lora_rank_swa": 64, "attention.key_length_swa": 96, "attention.value_length_swa": 64,
        "attention.key_length_mla_swa": 64, "attention.value_length_mla_swa": 32, "rope.freq_base_swa": 10000.0,
        "attention.indexer.types": [0, 1, 0, 1],
      ]),
    .init("ernie4_5-moe", nil, [.experts]), .init("exaone-moe", nil, [.experts, .window]),
    .init("glm-dsa", nil, [.experts, .latent, .indexer]), .init("glm4moe", nil, [.experts]),
    .init("gpt-oss", nil, [.experts, .window]),
    .init("granitemoe", nil, [.experts], ["logit_scale": 4.0]),
    .init("grok", nil, [.experts]),
    .init(
      "grovemoe", nil, [.experts],
      ["expert_group_scale": 0.5, "experts_per_group": 2, "expert_chunk_feed_forward_length": 64]),
    .init("hunyuan-moe", nil, [.experts]), .init("hy_v3", nil, [.experts]),
    .init(
      "hy_v4", nil, [.experts, .latent, .indexer],
      [
        "hyper_connection.count": 4, "hyper_connection.epsilon": 1e-6, "hyper_connection.magnitude": 2.0,
        "swiglu_clamp_exp": 10.0, "attention.indexer.types": [1, 0, 1, 0],
      ]),
    .init("laguna", nil, [.experts]), .init("llama4", nil, [.experts]),
    .init("maple", nil, [.experts, .windowList], ["swiglu_clamp_exp": 7.0]), .init("mellum", nil, [.experts, .window]),
    .init("mimo2", nil, [.experts, .windowList]), .init("minimax-m2", nil, [.experts]),
    .init(
      "minimax-m3", nil, [.experts, .indexer], ["attention.indexer.head_count": 2, "rope.dimension_count": 16]),
    .init("mistral4", nil, [.experts, .latent]), .init("olmoe", nil, [.experts], ["attention.head_count_kv": 4]),
    .init("phimoe", nil, [.experts]),
    .init("qwen2moe", nil, [.experts]), .init("qwen3moe", nil, [.experts]), .init("qwen3vlmoe", nil, [.experts]),
    .init("smallthinker", nil, [.experts]), .init("step35", nil, [.experts, .windowList]),
    .init("granite", "experts", [.experts], ["logit_scale": 4.0]),
    .init("minicpm", "experts", [.experts]), .init("mistral3", "experts", [.experts]),
  ]

  /// A state that goes along with the text, in all blocks or beside attention.
  static let recurrent: [TinyArchitecture] = [
    .init(
      "arwkv7", nil, [],
      [
        "wkv.head_size": 32, "attention.decay_lora_rank": 16, "attention.iclr_lora_rank": 16,
        "attention.value_residual_mix_lora_rank": 16, "attention.gate_lora_rank": 16, "token_shift_count": 1,
      ]),
    .init(
      "bailingmoe3", nil, [.experts, .latent, .kimi],
      ["swiglu_clamp_exp": .numbers([0, 4, 0, 4]), "swiglu_clamp_shexp": .numbers([0, 5, 0, 5])]),
    .init(
      "deepseek4", nil, [.experts, .indexer],
      [
        "embedding_length": 512, "attention.head_count": 8, "attention.head_count_kv": 1,
        "attention.key_length": 64, "attention.value_length": 64, "rope.dimension_count": 32,
        "attention.q_lora_rank": 64, "attention.sliding_window": 16, "attention.sliding_window_pattern": 2,
        "attention.output_group_count": 8, "attention.output_lora_rank": 32,
        "attention.compress_ratios": [0, 0, 4, 128], "attention.compress_rope_freq_base": 160000.0,
        "attention.indexer.head_count": 64, "attention.indexer.key_length": 128,
        "hyper_connection.count": 4, "hyper_connection.sinkhorn_iterations": 2, "hyper_connection.epsilon": 1e-6,
        "hash_layer_count": 0, "swiglu_clamp_exp": 10.0, "expert_gating_func": 4,
      ]),
    .init("falcon-h1", nil, [.states]),
    .init(
      "glm5-next", nil, [.experts, .latent, .kimi, .indexer],
      [
        "attention.head_count_kv": [0, 1, 0, 1], "attention.key_length": 64, "rope.dimension_count": 0,
        "hyper_connection.count": 4, "hyper_connection.sinkhorn_iterations": 2, "hyper_connection.epsilon": 1e-6,
      ]),
    .init("granitehybrid", nil, [.states, .everySecond], ["logit_scale": 4.0]),
    .init("jamba", nil, [.states, .everySecond]),
    .init(
      "kimi-k3", nil, [.experts, .latent, .kimi],
      [
        "attention.head_count": [4, 0, 4, 0], "attn_res.block_size": 12, "activation.situ_beta": 4.0,
        "activation.situ_linear_beta": 25.0, "expert_latent_length": 64,
      ]),
    .init("kimi-linear", nil, [.experts, .latent, .kimi], ["attention.head_count": [4, 0, 4, 0]]),
    .init("lfm2", nil, [.everySecond], ["shortconv.l_cache": 3]),
    .init("lfm2moe", nil, [.experts, .everySecond], ["shortconv.l_cache": 3]),
    .init("mamba", nil, [.states], ["ssm.group_count": 0]), .init("mamba2", nil, [.states]),
    .init("minimax-01", nil, [.experts], ["full_attention_interval": 2]),
    .init(
      "nemotron_h", nil, [.states],
      [
        "feed_forward_length": [0, 0, 192, 0], "attention.head_count": [4, 0, 0, 4],
        "attention.head_count_kv": [2, 0, 0, 2],
      ]),
    .init(
      "nemotron_h_moe", nil, [.states, .experts],
      [
        "feed_forward_length": [0, 0, 192, 0], "attention.head_count": [4, 0, 0, 4],
        "attention.head_count_kv": [2, 0, 0, 2],
      ]),
    .init(
      "plamo2", nil, [.states, .everySecond],
      ["ssm.group_count": 0, "attention.key_length": 32, "attention.value_length": 32]),
    .init("qwen35", nil, [.delta]), .init("qwen35moe", nil, [.delta, .experts]),
    .init("qwen3next", nil, [.delta, .experts]),
    .init(
      "qwen4exp", nil, [.delta, .experts, .indexer],
      [
        "hyper_connection.count": 4, "hyper_connection.sinkhorn_iterations": 2, "hyper_connection.epsilon": 1e-6,
        "hyper_connection.low_rank": 8, "attention.compress_ratios": [4, 4, 4, 4],
        "attention.indexer.head_count": 64, "attention.indexer.key_length": 32, "ple.layers": [0],
        "ple.ngram_size": 3, "ple.heads_per_ngram": 2, "ple.conv_kernel": 4, "ple.eos_token_id": 0,
        "embedding_length_per_layer_input": 32, "ple.layer_multipliers": .wide([1, 3, 5]),
        "ple.head_offsets": .wide([0, 320, 640, 960]), "ple.head_vocab_sizes": .wide([320, 320, 320, 320]),
      ]),
    .init(
      "rwkv6", nil, [],
      [
        "attention.head_count_kv": 4,
        "wkv.head_size": 32, "time_mix_extra_dim": 32, "time_decay_extra_dim": 64, "token_shift_count": 2,
        "rescale_every_n_layers": 2,
      ]),
    .init(
      "rwkv6qwen2", nil, [],
      ["wkv.head_size": 32, "time_mix_extra_dim": 32, "time_decay_extra_dim": 64, "token_shift_count": 1],
      lacks: ["time_mix_first"]),
    .init(
      "rwkv7", nil, [],
      [
        "wkv.head_size": 32, "attention.decay_lora_rank": 16, "attention.iclr_lora_rank": 16,
        "attention.value_residual_mix_lora_rank": 16, "attention.gate_lora_rank": 16, "token_shift_count": 2,
      ]),
  ]

  /// Those that predict no next token, or not on their own.
  static let others: [TinyArchitecture] = [
    "bert", "clip", "dflash", "dream", "eagle3", "eurobert", "gemma-embedding", "gemma4-assistant", "gptj",
    "jina-bert-v2", "jina-bert-v3", "llada", "llada-moe", "llama-embed", "modern-bert", "neo-bert", "nomic-bert",
    "nomic-bert-moe", "pockettts", "qwen3tts", "rnd1", "t5", "t5encoder", "wavtokenizer-dec",
  ].map(TinyArchitecture.other)
}
