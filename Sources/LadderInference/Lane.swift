import LadderBackbone
import LadderCompute
import LadderCore
import LadderMethods

/// One context of the engine and the texts in it: those of the backbone alone and of every side network share one, those
/// of an adapter that llama.cpp applies have one of their own.
///
/// A side network changes nothing of the backbone's keys and values, so a text may go on from what any other text of the
/// lane holds of the same beginning. What the rungs gave for it is kept beside it: another side network reads that, and
/// the backbone runs nothing twice.
final class Lane {
  /// A text's next tokens.
  struct Part {
    var slot: Int
    var tokens: [Int32]
    /// Whether rows of the model alone are wanted too.
    var comparesWithModel = false
  }

  let adapter: EngineAdapter?
  let rungs: [Int]
  private let forward: ForwardPass
  private let capacity: Int
  private let reuses: Bool
  private let step: TensorPool
  private let memory: GraphMemory
  private(set) var slots: [TextSlot]
  private var turn = 0

  /// - Parameters:
  ///   - tokens: of all texts together.
  ///   - texts: at once; fewer where the model takes no more.
  ///   - reuses: whether texts go on from what others hold.
  ///   - memory: where the results of side networks' steps lie.
  init(
    _ backbone: Backbone, rungs: [Int], adapter: EngineAdapter?, tokens: Int, texts: Int, reuses: Bool,
    exactAttention: Bool, memory: GraphMemory
  ) throws {
    self.memory = memory
    forward = try ForwardPass(
      backbone, rungs: rungs, maxTokens: tokens, texts: texts, finalRows: texts, exactAttention: exactAttention,
      keepsWindow: reuses && !backbone.takesOneSequence, adapter: adapter)
    self.adapter = adapter
    self.rungs = rungs
    self.reuses = reuses
    capacity = tokens
    step = TensorPool(backbone.engine)
    slots = Array(repeating: TextSlot(), count: min(texts, forward.maxSequences))
    forward.clear()
  }

  var isBusy: Bool { slots.contains(where: \.isBusy) }

  // MARK: - Places

  /// Whether a text of so many tokens can begin now.
  func hasRoom(for tokens: Int) -> Bool {
    slots.contains { !$0.isBusy } && slots.reduce(tokens) { $0 + ($1.isBusy ? $1.reserved : 0) } <= capacity
  }

  /// A place for a new text, which already holds what others have of its beginning: all but the last token at most.
  /// - Returns: the place, and how many tokens it holds.
  func take(_ prompt: [Int32], reserving tokens: Int, for model: AdaptedModel) throws -> (slot: Int, held: Int) {
    turn += 1
    // The longest common beginning; among equals one of the same side network.
    var source: Int?, common = 0
    if reuses {
      for (index, slot) in slots.enumerated() {
        let length = min(slot.common(with: prompt), prompt.count - 1)
        if length > common
          || (length == common && length > 0 && slot.model === model && slots[source ?? 0].model !== model)
        {
          (source, common) = (index, length)
        }
      }
    }
    let free = slots.indices.filter { !slots[$0].isBusy }
    guard let oldest = free.min(by: { (slots[$0].turn, $0) < (slots[$1].turn, $1) }) else {
      throw LadderError(.engine, "no place for another text")
    }
    let target: Int
    if let source, !slots[source].isBusy, common == slots[source].tokens.count || source == oldest {
      // It goes on where that one ended, or takes the place that is due.
      target = source
      common = cut(target, to: common)
      if slots[target].model !== model { slots[target].forgetModel() }
    } else {
      target = oldest
      let state = source.flatMap { slots[$0].model === model ? slots[$0].state : nil }
      let read = min(common, source.map { slots[$0].read } ?? 0)
      clear(target)
      if let source, common > 0 {
        forward.share(sequence: source, with: target, tokens: common)
        slots[target].tokens = Array(slots[source].tokens.prefix(common))
        slots[target].taps = slots[source].taps.map { Array($0.prefix(common * rowBytes)) }
        if let state, read > 0 {
          slots[target].state = try state.copy(tokens: read, capacity: Self.room(for: prompt.count))
          slots[target].read = read
        }
      }
    }
    slots[target].model = model
    slots[target].isBusy = true
    slots[target].reserved = tokens
    slots[target].turn = turn
    do { try readKept(target) } catch {
      clear(target)
      slots[target].isBusy = false
      throw error
    }
    return (target, common)
  }

  /// The text of a place has ended. What it held stays until the place is taken.
  func leave(_ slot: Int) {
    turn += 1
    slots[slot].isBusy = false
    slots[slot].reserved = 0
    slots[slot].turn = turn
    if slots[slot].model?.isForgotten ?? false { slots[slot].forgetModel() }
    if !reuses { clear(slot) }
  }

  /// Forgets what idle places hold for a model alone.
  func forget(_ model: AdaptedModel) {
    for slot in slots.indices where !slots[slot].isBusy && slots[slot].model === model {
      slots[slot].forgetModel()
    }
  }

  /// Forgets what a place holds.
  func clear(_ slot: Int) {
    forward.clear(sequence: slot)
    slots[slot].tokens = []
    slots[slot].taps = []
    slots[slot].forgetModel()
  }

  /// - Returns: the tokens that are left: none where the model cannot forget a part.
  private func cut(_ slot: Int, to tokens: Int) -> Int {
    if tokens == slots[slot].tokens.count { return tokens }
    guard tokens > 0, forward.cut(sequence: slot, to: tokens) else {
      clear(slot)
      return 0
    }
    slots[slot].tokens.removeLast(slots[slot].tokens.count - tokens)
    for rung in slots[slot].taps.indices {
      slots[slot].taps[rung].removeLast(slots[slot].taps[rung].count - tokens * rowBytes)
    }
    slots[slot].read = min(slots[slot].read, tokens)
    return tokens
  }

  // MARK: - Steps

  private var width: Int { forward.backbone.width }
  private var rowBytes: Int { 2 * width }

  /// Runs some tokens of several texts.
  /// - Returns: the head's input at the last token of each, [d, parts], in the parts' own order, and the same of the
  ///   model alone where a part wants it; valid until the next call.
  func advance(_ parts: [Part]) throws -> (rows: Tensor, alone: Tensor?, order: [Int]) {
    try step.reset()
    // Texts of one model are neighbours.
    var models: [ObjectIdentifier: Int] = [:]
    func group(_ part: Part) -> Int {
      guard let model = slots[part.slot].model else { return -1 }
      let known = models[ObjectIdentifier(model)] ?? models.count
      models[ObjectIdentifier(model)] = known
      return known
    }
    let groups = parts.map(group), order = parts.indices.sorted { (groups[$0], $0) < (groups[$1], $1) }
    let sorted = order.map { parts[$0] }
    let count = parts.reduce(0) { $0 + $1.tokens.count }
    makeRoom(for: count)
    let taps = try rungs.map { _ in try step.make(.bfloat16, [width, count]) }
    let final = try step.make(.float32, [width, parts.count])
    try forward.extend(
      sorted.map { .init(sequence: $0.slot, past: slots[$0.slot].tokens.count, tokens: $0.tokens) }, taps: taps,
      final: final)
    var alone: Tensor?
    if parts.contains(where: \.comparesWithModel) {
      let copy = try step.make(.float32, [width, parts.count])
      try final.forEachPart { bytes in copy.write(bytes: bytes) }
      alone = copy
    }
    var first = 0, token = 0
    while first < sorted.count {
      var last = first, tokens = 0
      let model = slots[sorted[first].slot].model, correction = try model?.correction(memory)
      let most = correction?.textsAtOnce ?? .max
      while last < sorted.count, groups[order[last]] == groups[order[first]], last - first < most {
        tokens += sorted[last].tokens.count
        last += 1
      }
      let group = Array(sorted[first..<last])
      if let model, let correction {
        let texts = try group.map { part in
          DecodedPart(
            try room(part.slot, for: slots[part.slot].tokens.count + part.tokens.count, correction),
            past: slots[part.slot].tokens.count, tokens: part.tokens.count)
        }
        try correction.correct(final, taps: try own(taps, of: model), texts, at: (token, first), pool: step)
        for part in group { slots[part.slot].read += part.tokens.count }
      }
      first = last
      token += tokens
    }
    keep(taps, sorted)
    for part in sorted { slots[part.slot].tokens += part.tokens }
    return (final, alone, order)
  }

  /// Those of the lane's taps that a model reads.
  private func own<T>(_ taps: [T], of model: AdaptedModel) throws -> [T] {
    try model.rungs.map { rung in
      guard let place = rungs.firstIndex(of: rung) else { throw LadderError(.engine, "block \(rung) is not tapped") }
      return taps[place]
    }
  }

  /// The state of a text's place, with room for so many tokens.
  private func room(_ slot: Int, for tokens: Int, _ correction: any DecoderCorrection) throws -> any DecoderState {
    if let state = slots[slot].state, state.capacity >= tokens { return state }
    let room = max(Self.room(for: tokens), 2 * (slots[slot].state?.capacity ?? 0))
    let state =
      try slots[slot].state.map { try $0.copy(tokens: slots[slot].read, capacity: room) }
      ?? correction.state(capacity: room)
    slots[slot].state = state
    return state
  }

  private static func room(for tokens: Int) -> Int { (tokens + 64 + 255) / 256 * 256 }

  /// Keeps what the rungs gave, for texts that begin alike.
  private func keep(_ taps: [Tensor], _ parts: [Part]) {
    guard reuses, !rungs.isEmpty else { return }
    for (rung, tap) in taps.enumerated() {
      tap.withHostBytes { bytes in
        var start = 0
        for part in parts {
          if slots[part.slot].taps.isEmpty { slots[part.slot].taps = rungs.map { _ in [] } }
          let end = start + part.tokens.count * rowBytes
          slots[part.slot].taps[rung].append(contentsOf: bytes[start..<end])
          start = end
        }
      }
    }
  }

  /// Lets the model of a place read what is kept of its tokens and it has not read.
  private func readKept(_ slot: Int) throws {
    guard let model = slots[slot].model, let correction = try model.correction(memory) else { return }
    while slots[slot].read < slots[slot].tokens.count {
      let past = slots[slot].read, count = min(256, slots[slot].tokens.count - past)
      try step.reset()
      let taps = try own(slots[slot].taps, of: model).map { kept in
        let tap = try step.make(.bfloat16, [width, count])
        kept.withUnsafeBytes { bytes in
          tap.write(bytes: UnsafeRawBufferPointer(rebasing: bytes[(past * rowBytes)..<((past + count) * rowBytes)]))
        }
        return tap
      }
      let state = try room(slot, for: slots[slot].tokens.count, correction)
      try correction.correct(nil, taps: taps, [DecodedPart(state, past: past, tokens: count)], at: (0, 0), pool: step)
      slots[slot].read += count
    }
  }

  /// Forgets what idle places hold, the longest unused first, until so many tokens fit. Beginnings that several hold are
  /// counted for each.
  private func makeRoom(for tokens: Int) {
    while slots.reduce(tokens, { $0 + $1.tokens.count }) > capacity {
      let idle = slots.indices.filter { !slots[$0].isBusy && !slots[$0].tokens.isEmpty }
      guard let oldest = idle.min(by: { slots[$0].turn < slots[$1].turn }) else { return }
      clear(oldest)
    }
  }
}
