import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderInference

/// What requests for chats and for completions have in common.
struct SamplingFields {
  let model: String
  var options = GenerationOptions()
  /// Answers to one prompt.
  let choices: Int
  let streams: Bool
  let tellsUsage: Bool
  /// Of the request; nil draws another for each.
  private let seed: UInt32?

  /// Stop texts, and answers to one prompt, at most.
  static let mostStops = 16, mostChoices = 16

  /// - Parameters:
  ///   - limits: of the server.
  ///   - tokens: entries of the model's vocabulary.
  init(_ fields: Fields, _ limits: ServerSettings.Limits, tokens: Int) throws {
    guard let model = try fields.text("model") else {
      throw APIError.bad("model", "model is missing: name the base model or a ladder; GET /v1/models lists them")
    }
    self.model = model
    choices = try fields.whole("n", 1...Self.mostChoices) ?? 1
    streams = try fields.flag("stream") ?? false
    let stream = try fields.object("stream_options")
    if stream != nil, !streams { throw APIError.bad("stream_options", "stream_options is for streams alone") }
    tellsUsage = try stream?.flag("include_usage") ?? false
    seed = try fields.whole("seed", -(1 << 53)...1 << 53).map { UInt32(truncatingIfNeeded: $0) }
    options.stop = try fields.texts("stop", most: Self.mostStops)
    if options.stop.contains("") { throw APIError.bad("stop", "stop holds an empty text") }
    options.maxTokens =
      try fields.whole("max_completion_tokens", 1...1 << 24) ?? fields.whole("max_tokens", 1...1 << 24)
      ?? limits.defaultTokens
    options.ignoresEnd = try fields.flag("ignore_eos") ?? false
    options.sampling = try Self.sampling(fields, tokens: tokens)
    try fields.refuse(["best_of", "suffix", "modalities", "audio", "functions", "function_call", "prediction"])
  }

  private static func sampling(_ fields: Fields, tokens: Int) throws -> SamplingOptions {
    var sampling = SamplingOptions()
    sampling.temperature = Float(try fields.number("temperature", 0...2) ?? 1)
    sampling.topP = Float(try fields.number("top_p", 0...1) ?? 1)
    // As 0 would keep nothing, and is asked for: the likeliest alone.
    if sampling.topP == 0 { sampling.temperature = 0 }
    if sampling.topP == 0 { sampling.topP = 1 }
    sampling.topK = try fields.whole("top_k", -1...1 << 20).map { max(0, $0) } ?? 0
    sampling.minP = Float(try fields.number("min_p", 0...0.999) ?? 0)
    sampling.frequencyPenalty = Float(try fields.number("frequency_penalty", -2...2) ?? 0)
    sampling.presencePenalty = Float(try fields.number("presence_penalty", -2...2) ?? 0)
    sampling.repeatPenalty = Float(
      try fields.number("repeat_penalty", 0.01...10) ?? fields.number("repetition_penalty", 0.01...10) ?? 1)
    if sampling.frequencyPenalty != 0 || sampling.presencePenalty != 0 { sampling.penaltyWindow = -1 }
    sampling.grammar = try fields.text("grammar")
    if let grammar = sampling.grammar { try GrammarLimits.check(grammar) }
    if let schema = fields["json_schema"] {
      if sampling.grammar != nil { throw APIError.bad("json_schema", "json_schema and grammar exclude each other") }
      guard schema.isObject else { throw APIError.bad("json_schema", "json_schema must be an object") }
      try GrammarLimits.check(schema, "json_schema")
      sampling.grammar = try SamplingOptions.grammar(jsonSchema: schema.source)
    }
    if let bias = try fields.object("logit_bias") {
      for (name, value) in bias.members {
        guard let token = Int32(name), (0..<tokens).contains(Int(token)), value.isNumber,
          let amount = Float(value.source), abs(amount) <= 100
        else {
          throw APIError.bad("logit_bias", "logit_bias must map tokens' numbers below \(tokens) to -100 to 100")
        }
        sampling.bias[token] = amount
      }
    }
    return sampling
  }

  /// What is told of the model alone is told with each token's probability.
  mutating func readComparison(_ fields: Fields) throws {
    options.comparesWithModel = try fields.flag("compare_with_base") ?? false
    if options.comparesWithModel, options.logProbabilities == nil {
      throw APIError.bad("compare_with_base", "compare_with_base is told with logprobs alone: ask for those too")
    }
  }

  /// The options of one of the choices.
  func options(choice: Int, drawn: UInt32) -> GenerationOptions {
    var options = options
    options.sampling.seed = (seed ?? drawn) &+ UInt32(truncatingIfNeeded: choice)
    return options
  }
}
