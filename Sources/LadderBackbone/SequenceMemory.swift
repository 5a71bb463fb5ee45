import CLlama

/// The keys and values that a context holds of each sequence.
///
/// Of a model with a sliding window the engine takes a cell for free once the one sequence that it belongs to has left
/// it behind. Where sequences are to be cut and shared, each one's cells therefore belong to a second one too.
struct SequenceMemory {
  private let memory: llama_memory_t?
  /// Second sequences are so much further.
  private let sequences: Int
  /// Whether cells are kept behind a sliding window.
  private let keepsWindow: Bool
  /// For each sequence how many of its tokens belong to the second one.
  private var kept: [Int]

  init(_ context: OpaquePointer, sequences: Int, keepsWindow: Bool) {
    memory = llama_get_memory(context)
    self.sequences = sequences
    self.keepsWindow = keepsWindow
    kept = [Int](repeating: 0, count: sequences)
  }

  /// Forgets every sequence.
  mutating func clear() {
    llama_memory_clear(memory, false)
    for sequence in kept.indices { kept[sequence] = 0 }
  }

  /// Forgets what a sequence holds from a token on; false where the model cannot: then it forgot nothing.
  mutating func cut(_ sequence: Int, to tokens: Int) -> Bool {
    let from = Int32(tokens > 0 ? tokens : -1)
    guard llama_memory_seq_rm(memory, Int32(sequence), from, -1) else { return false }
    if keepsWindow { _ = llama_memory_seq_rm(memory, Int32(sequence + sequences), from, -1) }
    kept[sequence] = min(kept[sequence], tokens)
    return true
  }

  /// Makes the first tokens of a sequence those of another, which is empty; both then hold them, once.
  mutating func share(_ sequence: Int, with other: Int, tokens: Int) {
    llama_memory_seq_cp(memory, Int32(sequence), Int32(other), 0, Int32(tokens))
    grew(other, to: tokens)
  }

  /// After a sequence has grown.
  mutating func grew(_ sequence: Int, to tokens: Int) {
    guard keepsWindow, tokens > kept[sequence] else { return }
    llama_memory_seq_cp(memory, Int32(sequence), Int32(sequence + sequences), Int32(kept[sequence]), Int32(tokens))
    kept[sequence] = tokens
  }
}
