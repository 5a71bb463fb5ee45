import Foundation
import LadderBackbone
import LadderInference

/// A chat's answers.
struct ChatTranslator: AnswerTranslator {
  private struct Answer {
    var text = ""
    var tokens: [GeneratedToken] = []
    var reading: AnswerReading?
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
    answers = Array(repeating: Answer(), count: common.choices)
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
      answers[choice].text += text
      guard streams else {
        answers[choice].tokens += tokens
        return []
      }
      var deltas = [DeltaObject(content: text)]
      if format != nil { deltas = try read(choice, isPartial: true) }
      return try chunks(deltas, choice, TokenProbabilities(tokens, options))
    case .ended(let generation):
      answers[choice].generation = generation
      let rest = try read(choice, isPartial: false)
      guard streams else { return [] }
      let last = ChatChoice(index: choice, delta: DeltaObject(), finishReason: finishReason(choice))
      return try chunks(rest, choice, nil) + [try head.object([last], chunk: true)]
    }
  }

  /// What the format makes of a text so far. A text that is cut short, or is none of the format's, says what a part of
  /// it says.
  private mutating func read(_ choice: Int, isPartial: Bool) throws -> [DeltaObject] {
    guard let format else { return [] }
    let text = answers[choice].text
    let isWhole = !isPartial && answers[choice].generation?.finishReason == "stop"
    let whole = isWhole ? try? format.read(text, choice: choice, isPartial: false) : nil
    let reading = whole ?? (try? format.read(text, choice: choice, isPartial: true))
    let isRead = reading.map { !isWhole || !$0.calls.isEmpty || !$0.reasoning.isEmpty } ?? false
    if !isPartial, whole == nil, !isRead {
      // What the format cannot read to its end is told as it stands, behind what was told of it.
      let told = (reading ?? answers[choice].reading)?.content ?? ""
      if text.hasPrefix(told) {
        answers[choice].reading = nil
        let rest = String(text.dropFirst(told.count))
        let new = reading?.deltas.map(\.content).joined() ?? ""
        return new.isEmpty && rest.isEmpty ? [] : [DeltaObject(content: new + rest)]
      }
    }
    guard let reading else { return [] }
    answers[choice].reading = reading
    return reading.deltas.map { delta in
      DeltaObject(
        content: delta.content.isEmpty ? nil : delta.content,
        reasoning: delta.reasoning.isEmpty ? nil : delta.reasoning,
        calls: delta.call.map { [CallObject(part: $0, index: delta.index ?? 0)] })
    }
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
    return reason == "stop" && !(answer.reading?.calls.isEmpty ?? true) ? "tool_calls" : reason
  }

  func ending() throws -> [Data] {
    tellsUsage ? [try head.object([ChatChoice](), chunk: true, usage: usage)] : []
  }

  func whole() throws -> Data {
    let choices = answers.enumerated().map { index, answer in
      var message = MessageObject(content: answer.text)
      if let reading = answer.reading {
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
