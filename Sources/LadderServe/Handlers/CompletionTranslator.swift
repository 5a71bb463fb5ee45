import Foundation
import LadderInference

/// Continuations of prompts as they stand.
struct CompletionTranslator: AnswerTranslator {
  private struct Continuation {
    var text = ""
    var tokens: [GeneratedToken] = []
    var offset = 0
    var generation: Generation?
  }

  private let head: AnswerHead
  private let options: GenerationOptions
  private let promptTokens: Int
  /// Of each prompt.
  private let choices: Int
  private let tellsUsage: Bool
  private let streams: Bool
  /// What stands before each choice.
  private let prefixes: [String]
  private var continuations: [Continuation]

  /// - Parameters:
  ///   - prefixes: one for each choice; empty where the prompt is not echoed.
  ///   - promptTokens: of all prompts, each once.
  init(_ common: SamplingFields, prefixes: [String], promptTokens: Int) {
    head = AnswerHead("cmpl-", object: "text_completion", model: common.model)
    options = common.options
    self.promptTokens = promptTokens
    choices = common.choices
    tellsUsage = common.tellsUsage
    streams = common.streams
    self.prefixes = prefixes
    continuations = Array(repeating: Continuation(), count: prefixes.count)
  }

  var generations: [Generation] { continuations.compactMap(\.generation) }
  private var usage: Usage { Usage(prompts: promptTokens, choices: choices, generations) }

  func beginning() throws -> [Data] {
    try prefixes.enumerated().filter { !$0.element.isEmpty }.map { index, prefix in
      try head.object([CompletionChoice(index: index, text: prefix)], chunk: true)
    }
  }

  mutating func take(_ event: GenerationEngine.Event, choice: Int) throws -> [Data] {
    switch event {
    case .began: return []
    case .piece(let text, let tokens):
      guard streams else {
        continuations[choice].text += text
        continuations[choice].tokens += tokens
        return []
      }
      let probabilities = CompletionProbabilities(tokens, options, offset: &continuations[choice].offset)
      return [
        try head.object([CompletionChoice(index: choice, text: text, probabilities: probabilities)], chunk: true)
      ]
    case .ended(let generation):
      continuations[choice].generation = generation
      guard streams else { return [] }
      return [
        try head.object(
          [CompletionChoice(index: choice, text: "", finishReason: generation.finishReason)], chunk: true)
      ]
    }
  }

  func ending() throws -> [Data] {
    tellsUsage ? [try head.object([CompletionChoice](), chunk: true, usage: usage)] : []
  }

  func whole() throws -> Data {
    let choices = continuations.enumerated().map { index, continuation in
      var offset = 0
      return CompletionChoice(
        index: index, text: prefixes[index] + continuation.text,
        probabilities: CompletionProbabilities(continuation.tokens, options, offset: &offset),
        finishReason: continuation.generation?.finishReason)
    }
    return try head.object(choices, chunk: false, usage: usage)
  }
}
