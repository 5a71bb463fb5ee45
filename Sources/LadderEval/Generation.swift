import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods

/// How text is generated.
public struct GenerationOptions: Sendable {
  /// The most tokens to generate.
  public var maxTokens = 256
  /// 0 takes the likeliest token at every step.
  public var temperature: Float = 0
  /// Keeps the likeliest tokens that together reach this probability.
  public var topP: Float = 1
  /// Of the draws, where the temperature is above 0.
  public var seed: UInt32 = 0
  /// Texts that end the generation where they appear; they are no part of it.
  public var stop: [String] = []
  /// Read control tokens' names in the prompt as those tokens.
  public var parsesSpecial = false

  public init() {}
}

/// Generated text, and what it took.
public struct Generation: Sendable {
  /// What was generated, without the prompt.
  public var text: String
  /// Tokens generated.
  public var tokens: Int
  /// Tokens of the prompt.
  public var promptTokens: Int
  /// What reading the prompt took.
  public var promptSeconds: Double
  /// What generating took.
  public var decodeSeconds: Double
  /// The model ended the text itself.
  public var ended: Bool
  /// The stop text that ended it.
  public var stop: String?

  /// Generated tokens in a second.
  public var tokensPerSecond: Double { Double(tokens) / max(1e-9, decodeSeconds) }
}

extension LadderModel {
  /// Continues a prompt, token by token, with the backbone's KV cache and the side network's own.
  /// - Parameter onText: called with each piece of text as it comes; a piece holds whole characters, and nothing of a
  ///   stop text. Bytes that are no character come as U+FFFD.
  /// - Throws: `usage` for a prompt without a token, or with a zero byte, and for an empty stop text; `interrupted`
  ///   where the task is cancelled.
  public func generate(
    _ prompt: String, options: GenerationOptions = GenerationOptions(), onText: (String) -> Void = { _ in }
  ) throws(LadderError) -> Generation {
    if prompt.unicodeScalars.contains("\0") { throw LadderError(.usage, "the prompt holds a zero byte; remove it") }
    let special = options.parsesSpecial || backbone.isTemplated(prompt)
    let tokens = backbone.tokenizer.tokens(prompt, beginning: true, special: special)
    return try generate(tokens, options, end: AnswerEnd(), onText)
  }

  /// Answers a conversation, rendered by the model's chat template or by the one that the run was trained with.
  /// - Throws: `data` where there is no template, or it refuses the conversation; otherwise as for a prompt.
  public func generate(
    _ conversation: Conversation, options: GenerationOptions = GenerationOptions(),
    onText: (String) -> Void = { _ in }
  ) throws(LadderError) -> Generation {
    let prompt = try LadderError.unify { try backbone.prompt(conversation) }
    return try generate(prompt, options, end: AnswerEnd(templateOf: backbone), onText)
  }

  private func generate(
    _ tokens: [Int32], _ options: GenerationOptions, end: AnswerEnd, _ onText: (String) -> Void
  ) throws(LadderError) -> Generation {
    if options.stop.contains("") { throw LadderError(.usage, "`stop` is empty; write the text to stop at") }
    guard !tokens.isEmpty else { throw LadderError(.usage, "the prompt is empty") }
    return try LadderError.unify {
      let decoder = try predictor.decoder(maxTokens: tokens.count + options.maxTokens, slots: 1)
      return try generate(tokens, decoder, try NextToken(backbone), options: options, end: end, onText: onText)
    }
  }

  /// The same with a decoder that is used again and again.
  func generate(
    _ prompt: [Int32], _ decoder: TextDecoder, _ next: NextToken, options: GenerationOptions, end: AnswerEnd,
    onText: (String) -> Void = { _ in }
  ) throws -> Generation {
    let sampler = Sampler(temperature: options.temperature, topP: options.topP, seed: options.seed)
    let clock = ContinuousClock()
    var generation = Generation(
      text: "", tokens: 0, promptTokens: prompt.count, promptSeconds: 0, decodeSeconds: 0, ended: false)
    decoder.reset()
    let start = clock.now
    var rows = try decoder.extend(prompt)
    generation.promptSeconds = (clock.now - start).seconds
    let decode = clock.now
    var stream = TextStream(stops: options.stop + end.texts)
    while generation.tokens < options.maxTokens {
      try Cancellation.check()
      let token = sampler.sample(try next.logits(rows))
      if backbone.tokenizer.endsGeneration(token) || end.tokens.contains(token) {
        generation.ended = true
        break
      }
      generation.tokens += 1
      let text = stream.take(backbone.tokenizer.bytes(of: token))
      generation.text += text
      if !text.isEmpty { onText(text) }
      if stream.stop != nil { break }
      if generation.tokens < options.maxTokens { rows = try decoder.extend([token]) }
    }
    if let stop = stream.stop {
      if options.stop.contains(stop) { generation.stop = stop } else { generation.ended = true }
    }
    let rest = stream.rest()
    generation.text += rest
    if !rest.isEmpty { onText(rest) }
    generation.decodeSeconds = (clock.now - decode).seconds
    return generation
  }
}

extension LadderModel {
  /// Continues many prompts, the likeliest token at every step, several texts at a time.
  /// - Parameters:
  ///   - decoder: its slots are the texts at a time.
  ///   - ends: what ends each text besides the model's own end.
  ///   - done: called with each prompt's index and its text, in the order in which they end.
  func generate(
    _ prompts: [[Int32]], _ decoder: TextDecoder, _ next: NextToken, maxTokens: Int,
    ends: [AnswerEnd], done: (Int, Generation) throws -> Void
  ) throws {
    struct Text {
      var index: Int
      var generation: Generation
      var stream: TextStream
      var last: Int32
    }
    var texts = [Text?](repeating: nil, count: decoder.slots)
    var waiting = Array(prompts.enumerated())[...]
    decoder.reset()

    /// Takes a row's likeliest token into the text of a slot; frees the slot where the text ends.
    func take(_ logits: ArraySlice<Float>, _ text: Text, slot: Int) throws {
      var text = text, best = logits.startIndex
      for i in logits.indices where logits[i] > logits[best] { best = i }
      text.last = Int32(best - logits.startIndex)
      text.generation.ended =
        backbone.tokenizer.endsGeneration(text.last) || ends[text.index].tokens.contains(text.last)
      if !text.generation.ended {
        text.generation.tokens += 1
        text.generation.text += text.stream.take(backbone.tokenizer.bytes(of: text.last))
      }
      text.generation.stop = text.stream.stop
      guard text.generation.ended || text.generation.stop != nil || text.generation.tokens >= maxTokens else {
        texts[slot] = text
        return
      }
      text.generation.text += text.stream.rest()
      texts[slot] = nil
      try done(text.index, text.generation)
    }

    while !waiting.isEmpty || texts.contains(where: { $0 != nil }) {
      try Cancellation.check()
      for slot in texts.indices where texts[slot] == nil {
        guard let (index, prompt) = waiting.popFirst() else { break }
        decoder.reset(slot: slot)
        let generation = Generation(
          text: "", tokens: 0, promptTokens: prompt.count, promptSeconds: 0, decodeSeconds: 0, ended: false)
        try take(
          try next.logits(try decoder.extend(prompt, slot: slot))[...],
          Text(index: index, generation: generation, stream: TextStream(stops: ends[index].texts), last: 0), slot: slot)
      }
      let active = texts.enumerated().compactMap { slot, text in text.map { (slot: slot, text: $0) } }
      if active.isEmpty { continue }
      let logits = try next.logits(try decoder.extend(active.map { (slot: $0.slot, token: $0.text.last) })),
        v = backbone.vocabulary
      for (row, (slot, text)) in active.enumerated() { try take(logits[(row * v)..<((row + 1) * v)], text, slot: slot) }
    }
  }
}

/// The head over single rows.
package final class NextToken {
  private let backbone: Backbone
  private let graph: Graph

  package init(_ backbone: Backbone) throws {
    self.backbone = backbone
    graph = try Graph(backbone.engine, nodes: 64)
  }

  /// Shapes: rows [d, n] → n × V logits, row by row.
  package func logits(_ rows: Tensor) throws -> [Float] {
    graph.reset()
    let logits = graph.keep(backbone.head.logits(graph, rows))
    try graph.compute()
    return logits.read()
  }
}
