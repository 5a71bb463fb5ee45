import LadderBackbone
import LadderCompute
import LadderCore
import LadderMethods

/// A text to continue.
package struct Prompt {
  package var tokens: [Int32]
  package var options: GenerationOptions
  package var end: AnswerEnd
  /// Control tokens that are text.
  package var preserved: Set<Int32>

  package init(_ tokens: [Int32], options: GenerationOptions, end: AnswerEnd, preserved: Set<Int32> = []) {
    self.tokens = tokens
    self.options = options
    self.end = end
    self.preserved = preserved
  }
}

/// What becomes of a text.
package enum GenerationUpdate {
  /// Its prompt is being read; so many of its tokens were held already.
  case began(reused: Int)
  /// Text that is certain, with the tokens since the last piece where probabilities were asked for.
  case piece(String, [GeneratedToken])
  /// The last update.
  case ended(Result<Generation, LadderError>)
}

/// Continues many texts at once, for the backbone alone and for everything that was trained on it: in each step every
/// text that is being written takes one token, and what is left of the step goes to the prompts that wait. Texts of
/// all side networks and of the backbone share the backbone's pass; the side networks and the head then work on the
/// rows of their own.
///
/// It belongs to one task at a time.
package final class GenerationLoop {
  package struct Settings: Sendable {
    /// Tokens of all texts together that one context holds.
    package var tokens: Int
    /// Texts at once in one context.
    package var texts: Int
    /// Whether texts go on from what earlier ones hold of the same beginning, and prompts share a pass with texts that
    /// are being written. A quantised model rounds what it computes otherwise in a shared pass: where this is off, a
    /// prompt is read as it is read alone.
    package var reuses: Bool
    /// Tokens of prompts in one step.
    package var piece = 256
    /// Attention in F32 throughout: for tests.
    package var exactAttention = false

    package init(tokens: Int, texts: Int, reuses: Bool) {
      self.tokens = tokens
      self.texts = texts
      self.reuses = reuses
    }
  }

  private let backbone: Backbone
  private let settings: Settings
  private let next: NextToken
  private let picks: TensorPool
  /// Of the side networks' steps, which run one after another.
  private let memory: GraphMemory
  private let scratch = SamplingScratch()
  /// Blocks that side networks to come will read: contexts hand them out from the first text on.
  package var expectedRungs: Set<Int> = []
  private var lanes: [Lane] = []
  /// What no new text will be for.
  private var forgotten: [EngineAdapter] = []
  private var waiting: [RunningText] = []
  private var running: [RunningText] = []
  private var count = 0

  package init(_ backbone: Backbone, _ settings: Settings) throws {
    self.backbone = backbone
    self.settings = settings
    next = try NextToken(backbone)
    memory = GraphMemory(backbone.engine)
    picks = TensorPool(backbone.engine, tensors: 4)
  }

  /// Texts that wait for a place.
  package var waitingTexts: Int { waiting.count }
  package var runningTexts: Int { running.count }

  /// Takes a text; `deliver` is called in `step`.
  /// - Returns: by which it can be cancelled.
  /// - Throws: `usage` for a text that can never be continued.
  @discardableResult
  package func add(
    _ prompt: Prompt, to model: AdaptedModel, deliver: @escaping (GenerationUpdate) -> Void
  ) throws -> Int {
    let options = prompt.options
    if options.stop.contains("") { throw LadderError(.usage, "`stop` is empty; write the text to stop at") }
    guard !prompt.tokens.isEmpty else { throw LadderError(.usage, "the prompt is empty") }
    guard options.maxTokens > 0 else { throw LadderError(.usage, "`maxTokens` must be 1 or more") }
    guard prompt.tokens.count < settings.tokens else {
      throw LadderError(
        .usage, "the prompt has \(prompt.tokens.count) tokens, and \(settings.tokens) were set aside for all texts")
    }
    let sampler = try Sampler(options.sampling, backbone.tokenizer, scratch: scratch)
    sampler.take(prompt: prompt.tokens)
    count += 1
    waiting.append(
      RunningText(
        count, prompt, model, sampler,
        room: prompt.tokens.count + min(options.maxTokens, settings.tokens - prompt.tokens.count), deliver))
    return count
  }

  /// Ends a text without another word to it.
  package func cancel(_ id: Int) {
    waiting.removeAll { $0.id == id }
    if let index = running.firstIndex(where: { $0.id == id }) {
      let text = running.remove(at: index)
      text.lane?.leave(text.slot)
    }
  }

  /// Ends every text so.
  package func clear() {
    waiting = []
    for text in running { text.lane?.leave(text.slot) }
    running = []
  }

  /// No new text will be for this model: what is held for it alone goes once its texts have ended.
  package func forget(_ model: AdaptedModel) {
    model.isForgotten = true
    if let adapter = model.predictor.adapter { forgotten.append(adapter) }
    for lane in lanes { lane.forget(model) }
    prune()
  }

  /// Frees contexts that no text will use: those of what is forgotten, and those in whose place a later one is.
  private func prune() {
    let used = running + waiting
    lanes = lanes.enumerated().filter { index, lane in
      let isForgotten = lane.adapter.map { adapter in forgotten.contains { $0 === adapter } } ?? false
      let isReplaced = lanes[(index + 1)...].contains { $0.adapter === lane.adapter }
      let isUsed = lane.isBusy || isForgotten && used.contains { $0.model.predictor.adapter === lane.adapter }
      return isUsed || !isForgotten && !isReplaced
    }.map(\.element)
    forgotten.removeAll { adapter in
      !lanes.contains { $0.adapter === adapter } && !used.contains { $0.model.predictor.adapter === adapter }
    }
  }

  /// Goes on with every text.
  /// - Returns: false where there is none.
  /// - Throws: `interrupted` where the task is cancelled. What goes wrong with a text ends that one.
  package func step() throws -> Bool {
    try Cancellation.check()
    admit()
    for lane in lanes {
      let texts = running.filter { $0.lane === lane }
      if texts.isEmpty { continue }
      do { try step(lane, texts) } catch {
        // What the engine holds of them may be ahead of what is known of it.
        for text in texts {
          lane.clear(text.slot)
          end(text, .failure(LadderError(any: error)))
        }
      }
    }
    if lanes.count > 1 || !forgotten.isEmpty { prune() }
    return !running.isEmpty || !waiting.isEmpty
  }

  // MARK: - Beginning

  private func admit() {
    var blocked: [ObjectIdentifier] = []
    for text in waiting {
      do {
        let lane = try lane(of: text.model)
        // In their order: a short text does not pass a long one that waits for room.
        if blocked.contains(ObjectIdentifier(lane)) || awaitsBeginning(text, lane) { continue }
        guard lane.hasRoom(for: text.room) else {
          blocked.append(ObjectIdentifier(lane))
          continue
        }
        text.began = .now
        (text.slot, text.fed) = try lane.take(text.prompt.tokens, reserving: text.room, for: text.model)
        text.lane = lane
        text.generation.reusedTokens = text.fed
        waiting.removeAll { $0 === text }
        running.append(text)
        text.deliver(.began(reused: text.fed))
      } catch { end(text, .failure(LadderError(any: error))) }
    }
  }

  /// Whether a text that is being read begins as this one does: it goes on from there once that is done.
  private func awaitsBeginning(_ text: RunningText, _ lane: Lane) -> Bool {
    settings.reuses
      && running.contains { other in
        other.lane === lane && other.fed < other.prompt.tokens.count
          && text.prompt.tokens.prefix(Self.worthAwaiting).elementsEqual(
            other.prompt.tokens.prefix(Self.worthAwaiting))
          && text.prompt.tokens.count > Self.worthAwaiting
      }
  }

  /// Tokens that texts have to begin with alike for one to wait for the other.
  private static let worthAwaiting = 64

  /// The context in which a model's texts run, made where there is none that hands out what it reads.
  private func lane(of model: AdaptedModel) throws -> Lane {
    let adapter = model.predictor.adapter, wanted = Set(model.rungs)
    if let lane = lanes.last(where: { $0.adapter === adapter && wanted.isSubset(of: $0.rungs) }) { return lane }
    // With what the others of its kind hand out, and what will be wanted: it need not be made again.
    let rungs = lanes.filter { $0.adapter === adapter }.reduce(wanted.union(adapter == nil ? expectedRungs : [])) {
      $0.union($1.rungs)
    }
    lanes.removeAll { $0.adapter === adapter && !$0.isBusy }
    let lane = try Lane(
      backbone, rungs: rungs.sorted(), adapter: adapter, tokens: settings.tokens, texts: settings.texts,
      reuses: settings.reuses, exactAttention: settings.exactAttention, memory: memory)
    lanes.append(lane)
    return lane
  }

  // MARK: - A step

  private func step(_ lane: Lane, _ all: [RunningText]) throws {
    var texts = all
    if !settings.reuses, let first = all.first(where: { $0.fed < $0.prompt.tokens.count }) { texts = [first] }
    var parts: [Lane.Part] = [], own: [RunningText] = [], room = settings.piece
    for text in texts {
      let left = text.prompt.tokens.count - text.fed
      // A text that is being written always goes on; prompts share what there is.
      let count = left > 0 ? min(left, room) : 1
      if count == 0 { continue }
      if left > 0 { room -= count }
      let tokens = left > 0 ? Array(text.prompt.tokens[text.fed..<(text.fed + count)]) : [text.last]
      parts.append(.init(slot: text.slot, tokens: tokens, comparesWithModel: text.comparesWithModel))
      own.append(text)
    }
    let (rows, alone, order) = try lane.advance(parts)
    for (index, text) in own.enumerated() where text.fed < text.prompt.tokens.count {
      text.fed += parts[index].tokens.count
    }
    let sampled = order.enumerated().filter { own[$1].fed == own[$1].prompt.tokens.count }
    if sampled.isEmpty { return }
    try picks.reset()
    let chosen = sampled.count == order.count ? nil : try picks.make(sampled.map { Int32($0.offset) })
    var modelLogits: [ObjectIdentifier: [Float]] = [:]
    if let alone {
      let compared = sampled.filter { own[$0.element].comparesWithModel }
      if !compared.isEmpty {
        try next.withLogits(alone, of: try picks.make(compared.map { Int32($0.offset) })) { index, logits in
          modelLogits[ObjectIdentifier(own[compared[index].element])] = Array(logits)
        }
      }
    }
    try next.withLogits(rows, of: chosen) { index, logits in
      let text = own[sampled[index].element]
      do {
        try text.take(logits, alone: modelLogits[ObjectIdentifier(text)], backbone.tokenizer)
        if text.isOver { end(text, .success(text.generation)) }
      } catch { end(text, .failure(LadderError(any: error))) }
    }
  }

  private func end(_ text: RunningText, _ result: Result<Generation, LadderError>) {
    waiting.removeAll { $0 === text }
    running.removeAll { $0 === text }
    text.lane?.leave(text.slot)
    text.lane = nil
    text.deliver(.ended(result))
  }
}
