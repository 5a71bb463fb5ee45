import LadderBackbone
import LadderCore
import LadderInference
import LadderMethods

extension SpeedBenchmark {
  /// Tokens generated in a second.
  struct Decoding {
    var engine: Double
    var model: Double
    var trained: Double?
  }

  /// One text of llama.cpp alone, of the model as it generates here, and of what is trained; in turn, some tokens each, so
  /// that a machine that slows down slows all.
  func decoding(_ trained: (any Predictor)?, after prompt: [Int32]) throws -> Decoding {
    let tokens = options.decodedTokens, turn = min(8, tokens)
    var engine = try EngineText(backbone, prompt, room: tokens)
    let texts = try ([BackbonePredictor(backbone)] + (trained.map { [$0] } ?? [])).map {
      try GeneratedText(backbone, AdaptedModel($0), prompt, tokens: tokens)
    }
    var seconds = [Double](repeating: 0, count: 1 + texts.count)
    for first in stride(from: 0, to: tokens, by: turn) {
      let count = min(turn, tokens - first)
      seconds[0] += try self.seconds { for _ in 0..<count { try engine.advance() } }
      for index in texts.indices {
        seconds[1 + index] += try self.seconds { for _ in 0..<count { try texts[index].advance() } }
      }
    }
    let speeds = seconds.map { Double(tokens) / $0 }
    return Decoding(engine: speeds[0], model: speeds[1], trained: speeds.count > 2 ? speeds[2] : nil)
  }
}

/// A text that llama.cpp continues by its own kernels, head and all: the likeliest token at each step.
private struct EngineText {
  private let forward: ForwardPass
  private var tokens: Int
  private var last: Int32 = 0

  init(_ backbone: Backbone, _ prompt: [Int32], room: Int) throws {
    forward = try ForwardPass(
      backbone, rungs: [], maxTokens: prompt.count + room, texts: 1, runsHead: true, engineAlone: true)
    tokens = 0
    try extend(prompt)
  }

  mutating func advance() throws { try extend([last]) }

  private mutating func extend(_ more: [Int32]) throws {
    try forward.extend([.init(sequence: 0, past: tokens, tokens: more)], taps: [], final: nil)
    guard let logits = forward.lastLogits else { throw LadderError(.engine, "the engine hands out no logits") }
    tokens += more.count
    last = Sampler.likeliest(logits)
  }
}

/// A text as `generate` continues it.
private final class GeneratedText {
  private let loop: GenerationLoop
  private var failure: LadderError?

  /// The prompt is read, and its first token there.
  init(_ backbone: Backbone, _ model: AdaptedModel, _ prompt: [Int32], tokens: Int) throws {
    var settings = GenerationOptions()
    settings.sampling.temperature = 0
    settings.maxTokens = tokens + 1
    settings.ignoresEnd = true
    loop = try GenerationLoop(backbone, .init(tokens: prompt.count + tokens + 1, texts: 1, reuses: false))
    try loop.add(Prompt(prompt, options: settings, end: AnswerEnd()), to: model) { [unowned self] update in
      if case .ended(.failure(let error)) = update { failure = error }
    }
    try advance()
  }

  func advance() throws {
    _ = try loop.step()
    if let failure { throw failure }
  }
}
