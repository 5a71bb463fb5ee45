import LadderBackbone
import LadderCompute
import LadderSide

/// How text is generated.
public struct GenerationOptions: Sendable {
  /// The most tokens to generate.
  public var maxTokens = 256
  /// 0 takes the likeliest token at every step.
  public var temperature: Float = 0
  /// Keeps the likeliest tokens that together reach this probability.
  public var topP: Float = 1
  public var seed: UInt32 = 0
  /// Read control tokens' names in the prompt as those tokens.
  public var parsesSpecial = false

  public init() {}
}

/// Generated text, and what it took.
public struct Generation: Sendable {
  public var text: String
  public var tokens: Int
  public var promptTokens: Int
  public var promptSeconds: Double
  public var decodeSeconds: Double
  /// The model ended the text itself.
  public var ended: Bool

  public var tokensPerSecond: Double { Double(tokens) / max(1e-9, decodeSeconds) }
}

extension LadderModel {
  /// Continues a prompt, token by token, with the backbone's KV cache and the side network's own.
  /// - Parameter onText: called with each piece of text as it comes; a piece holds whole characters.
  /// - Throws: `usage` for a prompt that is empty; `interrupted` where the task is cancelled.
  public func generate(_ prompt: String, options: GenerationOptions = GenerationOptions(), onText: (String) -> Void = { _ in }) throws -> Generation {
    let tokens = backbone.tokenizer.tokens(prompt, beginning: true, special: options.parsesSpecial)
    guard !tokens.isEmpty else { throw LadderError(.usage, "the prompt is empty") }
    let forward = try ForwardPass(backbone, rungs: rungs, maxTokens: tokens.count + options.maxTokens)
    return try generate(tokens, try SideDecoder(network, forward), try NextToken(backbone), options: options, onText: onText)
  }

  /// The same with a decoder that is used again and again.
  func generate(
    _ prompt: [Int32], _ decoder: SideDecoder, _ next: NextToken, options: GenerationOptions, onText: (String) -> Void = { _ in }
  ) throws -> Generation {
    let sampler = Sampler(temperature: options.temperature, topP: options.topP, seed: options.seed)
    let clock = ContinuousClock()
    var generation = Generation(text: "", tokens: 0, promptTokens: prompt.count, promptSeconds: 0, decodeSeconds: 0, ended: false)
    decoder.reset()
    let start = clock.now
    var rows = try decoder.extend(prompt)
    generation.promptSeconds = (clock.now - start).seconds
    let decode = clock.now
    var pending: [UInt8] = []
    while generation.tokens < options.maxTokens {
      try Cancellation.check()
      let token = sampler.sample(try next.logits(rows))
      if backbone.tokenizer.endsGeneration(token) {
        generation.ended = true
        break
      }
      generation.tokens += 1
      pending += backbone.tokenizer.bytes(of: token)
      if let text = String(validating: pending, as: UTF8.self) {
        generation.text += text
        onText(text)
        pending = []
      }
      if generation.tokens < options.maxTokens { rows = try decoder.extend([token]) }
    }
    if !pending.isEmpty {
      let text = String(decoding: pending, as: UTF8.self)
      generation.text += text
      onText(text)
    }
    generation.decodeSeconds = (clock.now - decode).seconds
    return generation
  }
}

/// The head over one row.
package final class NextToken {
  private let backbone: Backbone
  private let graph: Graph

  package init(_ backbone: Backbone) throws {
    self.backbone = backbone
    graph = try Graph(backbone.engine, nodes: 64)
  }

  /// Shapes: row [d, 1] → V logits.
  package func logits(_ row: Tensor) throws -> [Float] {
    graph.reset()
    let logits = graph.keep(backbone.head.logits(graph, row))
    try graph.compute()
    return logits.read()
  }
}
