/// Keys of a header that several architectures share.
package enum KeyGroup: Sendable {
  /// What every model gets; an architecture passes over those that it does not know.
  case common
  /// Experts, of which some are chosen for each token, and one that all share.
  case experts
  /// Keys and values through a narrow latent (DeepSeek-V2).
  case latent
  /// Some blocks see a window alone: every second, or those of a list.
  case window, windowList
  /// A state-space layer's state.
  case states
  /// A gated delta rule's state (Qwen3-Next).
  case delta
  /// Kimi's delta attention, and latent attention in every second block.
  case kimi
  /// An indexer chooses the keys to attend to.
  case indexer
  /// Every second block has no attention.
  case everySecond

  package static let blocks: UInt32 = 4
  package static let width: UInt32 = 128
  package static let heads: UInt32 = 4

  var keys: [String: MetadataValue] {
    switch self {
    case .common:
      [
        "vocab_size": 320, "context_length": 4096, "embedding_length": .integer(Self.width),
        "block_count": .integer(Self.blocks), "feed_forward_length": 192,
        "attention.head_count": .integer(Self.heads), "attention.head_count_kv": 2,
        "attention.layer_norm_epsilon": 1e-5, "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.group_norm_epsilon": 1e-5, "attention.group_norm_groups": 8, "attention.clamp_kqv": 8.0,
        "attention.max_alibi_bias": 8.0, "use_parallel_residual": true, "residual_scale": 0.7,
        "rope.dimension_sections": [4, 4, 4, 4],
      ]
    case .experts:
      [
        "expert_count": 4, "expert_used_count": 2, "expert_shared_count": 1, "expert_feed_forward_length": 64,
        "expert_shared_feed_forward_length": 96, "expert_gating_func": 2, "expert_weights_scale": 1.0,
        "expert_weights_norm": true, "leading_dense_block_count": 1, "interleave_moe_layer_step": 2,
      ]
    case .latent:
      [
        "attention.head_count_kv": 1, "attention.kv_lora_rank": 64, "attention.q_lora_rank": 64,
        "attention.key_length": 96, "attention.value_length": 64, "attention.key_length_mla": 64,
        "attention.value_length_mla": 32, "rope.dimension_count": 32,
      ]
    case .window: ["attention.sliding_window": 16, "attention.sliding_window_pattern": 2]
    case .windowList:
      ["attention.sliding_window": 16, "attention.sliding_window_pattern": [1, 0, 1, 0]]
    case .states:
      [
        "ssm.conv_kernel": 4, "ssm.inner_size": 256, "ssm.state_size": 16, "ssm.time_step_rank": 8,
        "ssm.group_count": 2,
      ]
    case .delta:
      [
        "ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 32, "ssm.time_step_rank": 4,
        "ssm.group_count": 2, "full_attention_interval": 2,
      ]
    case .kimi:
      [
        "kda.head_dim": 32, "kda.gate_lower_bound": .number(-5), "ssm.conv_kernel": 4,
        "attention.head_count_kv": [1, 0, 1, 0],
      ]
    case .indexer:
      [
        "attention.indexer.head_count": 4, "attention.indexer.key_length": 64, "attention.indexer.top_k": 4096,
        "attention.indexer.block_size": 4, "attention.indexer.local_blocks": 1, "attention.indexer.kpool": 4,
      ]
    case .everySecond: ["attention.head_count": [4, 0, 4, 0], "attention.head_count_kv": [2, 0, 2, 0]]
    }
  }
}
