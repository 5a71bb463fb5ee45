import Foundation
import LadderBackbone
import LadderCore

/// A text that is being continued.
final class RunningText {
  let id: Int
  let prompt: Prompt
  let model: AdaptedModel
  /// Tokens that it may come to.
  let room: Int
  let deliver: (GenerationUpdate) -> Void
  private let sampler: Sampler
  private var stream: TextStream

  var lane: Lane?
  var slot = 0
  /// Tokens of the prompt that were read.
  var fed = 0
  /// The last token that was generated.
  private(set) var last: Int32 = 0
  private(set) var isOver = false
  var generation: Generation
  var began = ContinuousClock.now
  private var firstToken: ContinuousClock.Instant?
  /// Since the last piece of text.
  private var told: [GeneratedToken] = []

  init(
    _ id: Int, _ prompt: Prompt, _ model: AdaptedModel, _ sampler: Sampler, room: Int,
    _ deliver: @escaping (GenerationUpdate) -> Void
  ) {
    self.id = id
    self.prompt = prompt
    self.model = model
    self.sampler = sampler
    self.room = room
    self.deliver = deliver
    stream = TextStream(stops: prompt.options.stop + prompt.end.texts)
    generation = Generation(
      text: "", tokens: 0, promptTokens: prompt.tokens.count, promptSeconds: 0, decodeSeconds: 0, ended: false)
  }

  var comparesWithModel: Bool { prompt.options.comparesWithModel && !model.rungs.isEmpty }

  /// Takes the next token.
  /// - Parameter alone: the logits of the model alone.
  func take(_ logits: UnsafeBufferPointer<Float>, alone: [Float]?, _ tokenizer: Tokenizer) throws {
    let now = ContinuousClock.now
    if firstToken == nil {
      firstToken = now
      generation.promptSeconds = (now - began).seconds
    }
    generation.decodeSeconds = (now - (firstToken ?? now)).seconds
    last = try sampler.sample(logits)
    if !prompt.options.ignoresEnd, tokenizer.endsGeneration(last) || prompt.end.tokens.contains(last) {
      generation.ended = true
      return finish()
    }
    generation.tokens += 1
    let bytes = tokenizer.bytes(of: last, special: prompt.preserved.contains(last))
    if prompt.options.logProbabilities != nil || comparesWithModel {
      told.append(token(bytes, logits, alone: alone, tokenizer))
    }
    say(stream.take(bytes))
    if let stop = stream.stop {
      if prompt.options.stop.contains(stop) { generation.stop = stop } else { generation.ended = true }
      return finish()
    }
    if prompt.tokens.count + generation.tokens >= room { finish() }
  }

  private func say(_ text: String) {
    generation.text += text
    if text.isEmpty { return }
    deliver(.piece(text, told))
    told = []
  }

  private func finish() {
    isOver = true
    let rest = stream.rest()
    generation.text += rest
    if !rest.isEmpty || !told.isEmpty { deliver(.piece(rest, told)) }
    told = []
  }

  private func token(
    _ bytes: [UInt8], _ logits: UnsafeBufferPointer<Float>, alone: [Float]?, _ tokenizer: Tokenizer
  ) -> GeneratedToken {
    let sum = Self.logSum(logits)
    var token = GeneratedToken(id: last, bytes: bytes, logProbability: Double(logits[Int(last)]) - sum)
    token.modelLogProbability = alone.map { alone in
      Double(alone[Int(last)]) - alone.withUnsafeBufferPointer(Self.logSum)
    }
    token.likeliest = Self.likeliest(prompt.options.logProbabilities ?? 0, logits).map { id in
      .init(id: id, bytes: tokenizer.bytes(of: id), logProbability: Double(logits[Int(id)]) - sum)
    }
    return token
  }

  /// ln Σ e^l.
  private static func logSum(_ logits: UnsafeBufferPointer<Float>) -> Double {
    let most = logits.max() ?? 0
    return Double(most) + log(logits.reduce(0) { $0 + Double(expf($1 - most)) })
  }

  /// The likeliest tokens, the first first.
  private static func likeliest(_ count: Int, _ logits: UnsafeBufferPointer<Float>) -> [Int32] {
    var best: [Int32] = []
    for token in logits.indices where count > 0 {
      let logit = logits[token]
      if best.count == count, logit <= logits[Int(best[count - 1])] { continue }
      if best.count == count { best.removeLast() }
      best.insert(Int32(token), at: best.firstIndex { logits[Int($0)] < logit } ?? best.count)
    }
    return best
  }
}
