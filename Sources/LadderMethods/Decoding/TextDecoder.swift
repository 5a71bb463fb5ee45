import LadderBackbone
import LadderCompute
import LadderCore

/// Step-by-step decoding of one or several texts with the backbone's keys and values.
package final class TextDecoder {
  /// Nil decodes with the backbone as it is.
  private let correction: (any DecoderCorrection)?
  private let forward: ForwardPass
  /// Texts at once.
  package let slots: Int
  /// Tokens of one text.
  private let capacity: Int
  private let step: TensorPool
  private let states: [any DecoderState]
  /// Tokens that each text holds.
  package private(set) var pasts: [Int]

  /// - Parameters:
  ///   - forward: hands out what the correction reads.
  ///   - slots: texts at once; they share what `forward` sets aside.
  package init(_ forward: ForwardPass, slots: Int = 1, correction: (any DecoderCorrection)? = nil) throws {
    precondition(slots <= forward.maxSequences)
    self.forward = forward
    self.slots = slots
    let capacity = forward.maxTokens / slots
    self.capacity = capacity
    pasts = [Int](repeating: 0, count: slots)
    step = TensorPool(forward.backbone.engine)
    self.correction = correction
    states =
      try correction.map { correction in try (0..<slots).map { _ in try correction.state(capacity: capacity) } } ?? []
    forward.clear()
  }

  /// Starts new texts.
  package func reset() {
    forward.clear()
    for slot in pasts.indices { pasts[slot] = 0 }
  }

  /// Starts a new text in one slot.
  package func reset(slot: Int) {
    forward.clear(sequence: slot)
    pasts[slot] = 0
  }

  /// Takes a text's next tokens; returns the head's input at the last of them, [d, 1], valid until the next call.
  /// - Throws: `usage` where the text outgrows the cache.
  package func extend(_ tokens: [Int32], slot: Int = 0) throws -> Tensor {
    // Long prompts go in pieces, so that no T×T scores exist.
    let piece = 256
    var start = 0
    while tokens.count - start > piece {
      _ = try advance([(slot, Array(tokens[start..<(start + piece)]))])
      start += piece
    }
    return try advance([(slot, Array(tokens[start...]))])
  }

  /// Takes one token of each of several texts; returns the head's input at each, [d, texts], valid until the next call.
  package func extend(_ tokens: [(slot: Int, token: Int32)]) throws -> Tensor {
    try advance(tokens.map { ($0.slot, [$0.token]) })
  }

  private func advance(_ texts: [(slot: Int, tokens: [Int32])]) throws -> Tensor {
    for (slot, tokens) in texts where pasts[slot] + tokens.count > capacity {
      throw LadderError(.usage, "the text outgrows the \(capacity) tokens that were set aside; ask for fewer")
    }
    try step.reset()
    let extensions = texts.map { ForwardPass.Extension(sequence: $0.slot, past: pasts[$0.slot], tokens: $0.tokens) }
    let n = texts.reduce(0) { $0 + $1.tokens.count }, d = forward.backbone.width
    let taps = try forward.rungs.map { _ in try step.make(.bfloat16, [d, n]) }
    let final = try step.make(.float32, [d, texts.count])
    try forward.extend(extensions, taps: taps, final: final)
    if let correction {
      let parts = texts.map { DecodedPart(states[$0.slot], past: pasts[$0.slot], tokens: $0.tokens.count) }
      try correction.correct(final, taps: taps, parts, at: (0, 0), pool: step)
    }
    for (slot, tokens) in texts { pasts[slot] += tokens.count }
    return final
  }
}
