import CChat
import CLlama
import Foundation
import LadderCompute
import LadderCore

/// How tokens are drawn from a model's probabilities, by llama.cpp's samplers and in their order: bias, penalties, the
/// likeliest `topK`, `topP`, `minP`, temperature.
public struct SamplingOptions: Sendable, Equatable, Codable {
  /// 0 takes the likeliest token at every step.
  public var temperature: Float = 0
  /// Keeps so many of the likeliest tokens; 0 keeps a thousand, below which all is noise.
  public var topK = 0
  /// Keeps the likeliest tokens that together reach this probability.
  public var topP: Float = 1
  /// Keeps tokens that are at least this likely beside the likeliest.
  public var minP: Float = 0
  /// What the logits of tokens that came before are divided by, where positive; 1 changes nothing.
  public var repeatPenalty: Float = 1
  /// Taken from the logit of a token that came before, for each time that it did.
  public var frequencyPenalty: Float = 0
  /// Taken from the logit of a token that came before.
  public var presencePenalty: Float = 0
  /// How many of the last tokens the penalties look at; -1 is all.
  public var penaltyWindow = 64
  /// Of the draws.
  public var seed: UInt32 = 0
  /// Added to tokens' logits.
  public var bias: [Int32: Float] = [:]
  /// What the text has to be, in llama.cpp's GBNF; its first rule is `root`.
  public var grammar: String?
  /// From where on the grammar holds; nil is from the beginning.
  package var grammarUse: GrammarUse?

  /// When a grammar begins to hold.
  package struct GrammarUse: Sendable, Equatable, Codable {
    /// Whether it waits for one of the patterns or tokens.
    package var isLazy: Bool
    package var patterns: [String]
    package var tokens: [Int32]
    /// What stands before the text already and belongs to it.
    package var opening: String
  }

  public init() {}

  /// A JSON schema as a grammar, by llama.cpp.
  /// - Throws: `usage` for a schema that cannot be read.
  public static func grammar(jsonSchema: String) throws(LadderError) -> String {
    var error: UnsafeMutablePointer<CChar>?
    guard let grammar = ladder_schema_grammar(jsonSchema, &error) else {
      let reason = ChatTemplate.line(ChatTemplate.take(error) ?? "")
      throw LadderError(.usage, "the JSON schema cannot be read: \(reason)")
    }
    defer { ladder_chat_free_text(grammar) }
    return String(cString: grammar)
  }

  /// - Throws: `usage` for what cannot be.
  public func validate() throws(LadderError) {
    func require(_ holds: Bool, _ text: String) throws(LadderError) {
      if !holds { throw LadderError(.usage, text) }
    }
    try require(temperature >= 0 && temperature <= 100, "`temperature` must be 0 to 100")
    try require((0...1 << 20).contains(topK), "`topK` must be 0 to \(1 << 20)")
    try require(topP > 0 && topP <= 1, "`topP` must be above 0 and at most 1")
    try require(minP >= 0 && minP < 1, "`minP` must be 0 or more and below 1")
    try require(repeatPenalty > 0 && repeatPenalty.isFinite, "`repeatPenalty` must be above 0")
    try require(abs(frequencyPenalty) <= 100, "`frequencyPenalty` must be -100 to 100")
    try require(abs(presencePenalty) <= 100, "`presencePenalty` must be -100 to 100")
    try require((-1...1 << 20).contains(penaltyWindow), "`penaltyWindow` must be -1 to \(1 << 20)")
  }

  fileprivate var penalises: Bool { repeatPenalty != 1 || frequencyPenalty != 0 || presencePenalty != 0 }
}

/// Room for a draw: the whole vocabulary.
package final class SamplingScratch {
  fileprivate var candidates: [llama_token_data] = []
  package init() {}
}

/// Chooses the next tokens of one text from logits, by llama.cpp's own samplers.
package final class Sampler {
  private let chain: UnsafeMutablePointer<llama_sampler>
  private var grammar: UnsafeMutablePointer<llama_sampler>?
  /// Keeps the likeliest tokens, as many as the chain keeps.
  private let likeliest: UnsafeMutablePointer<llama_sampler>
  private let hasBias: Bool
  /// Whether nothing but the largest logit counts.
  private let isPlain: Bool
  private let penalises: Bool
  private let scratch: SamplingScratch

  /// - Parameter scratch: may be that of other texts, which draw in turn.
  /// - Throws: `usage` for a grammar that cannot be read, or that would take too long.
  package init(
    _ options: SamplingOptions, _ tokenizer: Tokenizer, scratch: SamplingScratch = SamplingScratch()
  ) throws {
    try options.validate()
    if let grammar = options.grammar { try GrammarWork.check(grammar) }
    self.scratch = scratch
    chain = llama_sampler_chain_init(llama_sampler_chain_default_params())
    likeliest = llama_sampler_init_top_k(Int32(max(1000, options.topK)))
    hasBias = !options.bias.isEmpty
    // A temperature that no logit divided by stays finite is none.
    let isGreedy = options.temperature < 1e-6
    penalises = options.penalises
    isPlain = isGreedy && options.bias.isEmpty && !options.penalises
    if !options.bias.isEmpty {
      let bias = options.bias.sorted { $0.key < $1.key }.map { llama_logit_bias(token: $0.key, bias: $0.value) }
      llama_sampler_chain_add(
        chain, llama_sampler_init_logit_bias(Int32(tokenizer.count), Int32(bias.count), bias))
    }
    if options.penalises {
      llama_sampler_chain_add(
        chain,
        llama_sampler_init_penalties(
          Int32(tokenizer.count), Int32(options.penaltyWindow < 0 ? 1 << 16 : options.penaltyWindow),
          options.repeatPenalty,
          options.frequencyPenalty, options.presencePenalty))
    }
    if isGreedy {
      llama_sampler_chain_add(chain, llama_sampler_init_greedy())
    } else {
      // Sorting a whole vocabulary takes longer than a step.
      llama_sampler_chain_add(chain, llama_sampler_init_top_k(Int32(options.topK > 0 ? options.topK : 1000)))
      if options.topP < 1 { llama_sampler_chain_add(chain, llama_sampler_init_top_p(options.topP, 1)) }
      if options.minP > 0 { llama_sampler_chain_add(chain, llama_sampler_init_min_p(options.minP, 1)) }
      llama_sampler_chain_add(chain, llama_sampler_init_temp(options.temperature))
      // The largest seed is llama.cpp's word for any.
      llama_sampler_chain_add(chain, llama_sampler_init_dist(options.seed == .max ? 0 : options.seed))
    }
    if let source = options.grammar {
      Log.clearError()
      grammar = Self.grammar(source, options.grammarUse, tokenizer)
      if grammar == nil { throw LadderError(.usage, "the grammar cannot be read: \(Log.takeError())") }
      try takeOpening(options.grammarUse, tokenizer)
    }
  }

  private static func grammar(
    _ source: String, _ use: SamplingOptions.GrammarUse?, _ tokenizer: Tokenizer
  ) -> UnsafeMutablePointer<llama_sampler>? {
    guard let use, use.isLazy else { return llama_sampler_init_grammar(tokenizer.vocabulary, source, "root") }
    let patterns = use.patterns.map { strdup($0) }
    defer { for pattern in patterns { free(pattern) } }
    var pointers = patterns.map { UnsafePointer($0) }
    return llama_sampler_init_grammar_lazy_patterns(
      tokenizer.vocabulary, source, "root", &pointers, pointers.count, use.tokens, use.tokens.count)
  }

  /// What the prompt ends with may be the beginning of what the grammar describes.
  private func takeOpening(_ use: SamplingOptions.GrammarUse?, _ tokenizer: Tokenizer) throws {
    guard let grammar, let use, !use.isLazy, !use.opening.isEmpty else { return }
    for (place, token) in tokenizer.tokens(use.opening, special: true).enumerated() {
      // Some tokenizers put a space before the first token.
      let first = tokenizer.bytes(of: token, special: true).first
      if place == 0, first == UInt8(ascii: " "), !use.opening.hasPrefix(" ") { continue }
      guard ladder_sampler_accept(grammar, token) else {
        throw LadderError(.data, "the grammar does not fit what the prompt ends with")
      }
    }
  }

  deinit {
    llama_sampler_free(chain)
    llama_sampler_free(likeliest)
    if let grammar { llama_sampler_free(grammar) }
  }

  /// Takes what was said before the text, for the penalties.
  package func take(prompt: [Int32]) {
    guard penalises else { return }
    for token in prompt { llama_sampler_accept(chain, token) }
  }

  /// The next token of the text, which it then takes to have been said.
  package func sample(_ logits: UnsafeBufferPointer<Float>) throws -> Int32 {
    var token = isPlain ? Self.likeliest(logits) : drawn(logits, nil)
    if let grammar {
      // The whole vocabulary is held against the grammar only where the choice itself does not fit it.
      if !Self.fits(token, grammar) { token = drawn(logits, grammar) }
      guard Self.fits(token, grammar), ladder_sampler_accept(grammar, token) else {
        throw LadderError(.data, "no token of the model fits the grammar at this place")
      }
    }
    if !isPlain { llama_sampler_accept(chain, token) }
    return token
  }

  private func drawn(_ logits: UnsafeBufferPointer<Float>, _ grammar: UnsafeMutablePointer<llama_sampler>?) -> Int32 {
    if scratch.candidates.count != logits.count {
      scratch.candidates = [llama_token_data](repeating: llama_token_data(), count: logits.count)
    }
    func fill() {
      for (token, logit) in logits.enumerated() {
        scratch.candidates[token] = llama_token_data(id: Int32(token), logit: logit, p: 0)
      }
    }
    fill()
    if let grammar, let token = drawnAmongLikeliest(grammar) { return token }
    if grammar != nil { fill() }
    return scratch.candidates.withUnsafeMutableBufferPointer { buffer in
      var list = llama_token_data_array(data: buffer.baseAddress, size: buffer.count, selected: -1, sorted: false)
      if let grammar { llama_sampler_apply(grammar, &list) }
      return choice(&list)
    }
  }

  /// To hold a large vocabulary against a grammar takes longer than several steps; one of the likeliest tokens mostly
  /// fits. Nil where none does, or where bias may lift another.
  private func drawnAmongLikeliest(_ grammar: UnsafeMutablePointer<llama_sampler>) -> Int32? {
    guard !hasBias else { return nil }
    return scratch.candidates.withUnsafeMutableBufferPointer { buffer in
      var list = llama_token_data_array(data: buffer.baseAddress, size: buffer.count, selected: -1, sorted: false)
      llama_sampler_apply(likeliest, &list)
      llama_sampler_apply(grammar, &list)
      // By the grammar they are no longer in order.
      list.sorted = false
      guard (0..<list.size).contains(where: { list.data[$0].logit > -.infinity }) else { return nil }
      return choice(&list)
    }
  }

  private func choice(_ list: inout llama_token_data_array) -> Int32 {
    llama_sampler_apply(chain, &list)
    return list.selected >= 0 ? list.data[Int(list.selected)].id : 0
  }

  private static func fits(_ token: Int32, _ grammar: UnsafeMutablePointer<llama_sampler>) -> Bool {
    var one = llama_token_data(id: token, logit: 1, p: 0)
    return withUnsafeMutablePointer(to: &one) { one in
      var list = llama_token_data_array(data: one, size: 1, selected: -1, sorted: false)
      llama_sampler_apply(grammar, &list)
      return one.pointee.logit > -.infinity
    }
  }

  /// The first of the largest.
  package static func likeliest(_ logits: UnsafeBufferPointer<Float>) -> Int32 {
    var best = 0
    for token in logits.indices where logits[token] > logits[best] { best = token }
    return Int32(best)
  }
}
