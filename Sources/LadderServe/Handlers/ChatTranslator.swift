import Foundation
import LadderBackbone
import LadderInference

/// A chat's answers.
struct ChatTranslator: AnswerTranslator {
  private struct Answer {
    var said: AnswerText
    var tokens: [GeneratedToken] = []
    var generation: Generation?
  }

  private let head: AnswerHead
  private let options: GenerationOptions
  private let promptTokens: Int
  private let format: AnswerFormat?
  private let tellsUsage: Bool
  private let streams: Bool
  private var answers: [Answer]

  init(_ common: SamplingFields, _ prompt: PreparedPrompt) {
    head = AnswerHead("chatcmpl-", object: "chat.completion", model: common.model)
    options = common.options
    promptTokens = prompt.tokens.count
    format = prompt.format
    tellsUsage = common.tellsUsage
    streams = common.streams
    answers = (0..<common.choices).map { Answer(said: AnswerText(prompt.format, choice: $0)) }
  }

  var generations: [Generation] { answers.compactMap(\.generation) }
  private var usage: Usage { Usage(prompts: promptTokens, choices: answers.count, generations) }

  func beginning() throws -> [Data] {
    try answers.indices.map { index in
      try head.object([ChatChoice(index: index, delta: DeltaObject(role: "assistant", content: ""))], chunk: true)
    }
  }

  mutating func take(_ event: GenerationEngine.Event, choice: Int) throws -> [Data] {
    switch event {
    case .began: return []
    case .piece(let text, let tokens):
      answers[choice].said.add(text)
      guard streams else {
        answers[choice].tokens += tokens
        return []
      }
      var deltas = [DeltaObject(content: text)]
      if format != nil { deltas = answers[choice].said.read().map(Self.told) }
      return try chunks(deltas, choice, TokenProbabilities(tokens, options))
    case .ended(let generation):
      answers[choice].generation = generation
      let rest = answers[choice].said.end(isWhole: generation.finishReason == "stop").map(Self.told)
      guard streams else { return [] }
      let last = ChatChoice(index: choice, delta: DeltaObject(), finishReason: finishReason(choice))
      return try chunks(rest, choice, nil) + [try head.object([last], chunk: true)]
    }
  }

  private static func told(_ delta: AnswerReading.Delta) -> DeltaObject {
    DeltaObject(
      content: delta.content.isEmpty ? nil : delta.content,
      reasoning: delta.reasoning.isEmpty ? nil : delta.reasoning,
      calls: delta.call.map { [CallObject(part: $0, index: delta.index ?? 0)] })
  }

  private func chunks(_ deltas: [DeltaObject], _ choice: Int, _ probabilities: TokenProbabilities?) throws -> [Data] {
    var deltas = deltas
    // Tokens that say nothing yet have probabilities all the same.
    if deltas.isEmpty, probabilities != nil { deltas = [DeltaObject()] }
    return try deltas.enumerated().map { place, delta in
      try head.object(
        [ChatChoice(index: choice, delta: delta, probabilities: place == 0 ? probabilities : nil)], chunk: true)
    }
  }

  private func finishReason(_ choice: Int) -> String? {
    let answer = answers[choice]
    guard let reason = answer.generation?.finishReason else { return nil }
    return reason == "stop" && !(answer.said.reading?.calls.isEmpty ?? true) ? "tool_calls" : reason
  }

  func ending() throws -> [Data] {
    tellsUsage ? [try head.object([ChatChoice](), chunk: true, usage: usage)] : []
  }

  func whole() throws -> Data {
    let choices = answers.enumerated().map { index, answer in
      var message = MessageObject(content: answer.said.text)
      if let reading = answer.said.reading {
        message.content = reading.content.isEmpty && !reading.calls.isEmpty ? nil : reading.content
        message.reasoning = reading.reasoning.isEmpty ? nil : reading.reasoning
        message.calls = reading.calls.isEmpty ? nil : reading.calls.map { CallObject($0) }
      }
      return ChatChoice(
        index: index, message: message, probabilities: TokenProbabilities(answer.tokens, options),
        finishReason: finishReason(index))
    }
    return try head.object(choices, chunk: false, usage: usage)
  }
}
