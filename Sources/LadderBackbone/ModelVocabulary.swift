import CLlama
import Foundation
import LadderCompute
import LadderCore
import LadderData

/// How a model reads text: its tokenizer and its template for conversations. Needs no weights.
package final class ModelVocabulary: Tokenizing, @unchecked Sendable {
  package let tokenizer: Tokenizer
  package let threads: Int
  private let path: String
  private let owner: ModelOwner
  private let lock = NSLock()
  private var template: ChatTemplate?
  private var templateSource: String?
  private var templateOptions: [String: String] = [:]
  private var templateNow: Date?

  /// Reads a model's file without its weights.
  package convenience init(path: String) throws {
    let file = try GGUFFile(path: path)
    try file.requireDecoder()
    let owner = try ModelLoading.load(
      file.path, [], try Engine(threads: 1, device: "CPU"), vocabularyOnly: true)
    try self.init(owner, path: path, threads: Engine.processors)
  }

  init(_ owner: ModelOwner, path: String, threads: Int) throws {
    guard let vocabulary = llama_model_get_vocab(owner.model), llama_vocab_type(vocabulary) != LLAMA_VOCAB_TYPE_NONE
    else {
      throw LadderError(
        .data, "\(path) carries no tokenizer; convert the model again with its tokenizer files beside it")
    }
    tokenizer = Tokenizer(vocabulary: vocabulary, owner: owner)
    self.owner = owner
    self.path = path
    self.threads = threads
  }

  /// The same with a template of its own.
  package func separate() throws -> ModelVocabulary { try ModelVocabulary(owner, path: path, threads: threads) }

  /// Recurrent states are kept per sequence, so such models take one sample at a time.
  package var takesOneSequence: Bool {
    llama_model_is_recurrent(owner.model) || llama_model_is_hybrid(owner.model)
  }

  /// - Throws: `data` where the model has no template, or one that cannot be read.
  package func chatTemplate() throws -> ChatTemplate {
    try lock.withLock {
      if let template { return template }
      let own = try ChatTemplate(
        model: owner.model, owner: owner, source: templateSource, options: templateOptions, now: templateNow,
        names: tokenizer.control.index, path: path)
      template = own
      return own
    }
  }

  /// Renders conversations otherwise from here on.
  /// - Parameter now: what a template that writes the date takes for now; nil is the clock.
  package func useChatTemplate(_ source: String?, options: [String: String], now: Date? = nil) {
    lock.withLock {
      templateNow = now
      templateSource = source
      templateOptions = options
      template = nil
    }
  }

  // MARK: - Tokenizing

  package var addsBeginning: Bool { tokenizer.addsBeginning }
  package var beginning: Int32? { tokenizer.beginning }
  package var end: Int32? { tokenizer.end }
  package var controlNames: [String] { tokenizer.controlNames }
  package var sharesBeginnings: Bool { !takesOneSequence }

  package func tokens(_ text: String, beginning: Bool, special: Bool) -> [Int32] {
    tokenizer.tokens(text, beginning: beginning, special: special)
  }

  package func rendered(_ conversation: Conversation, opensAnswer: Bool) throws -> RenderedText {
    try chatTemplate().rendered(conversation, opensAnswer: opensAnswer)
  }

  package func tokens(of rendered: RenderedText) throws -> PlacedTokens { try tokenizer.tokens(of: rendered) }

  package func bytes(of token: Int32) -> [UInt8] { tokenizer.bytes(of: token, special: true) }

  package func isControl(_ token: Int32) -> Bool { tokenizer.control.tokens.contains(token) }
}

extension Backbone: Tokenizing {
  package var threads: Int { engine.threads }
  package var tokenizer: Tokenizer { language.tokenizer }
  package var addsBeginning: Bool { language.addsBeginning }
  package var beginning: Int32? { language.beginning }
  package var end: Int32? { language.end }
  package var controlNames: [String] { language.controlNames }
  package var sharesBeginnings: Bool { language.sharesBeginnings }

  package func tokens(_ text: String, beginning: Bool, special: Bool) -> [Int32] {
    language.tokens(text, beginning: beginning, special: special)
  }

  package func rendered(_ conversation: Conversation, opensAnswer: Bool) throws -> RenderedText {
    try language.rendered(conversation, opensAnswer: opensAnswer)
  }

  package func tokens(of rendered: RenderedText) throws -> PlacedTokens { try language.tokens(of: rendered) }
  package func bytes(of token: Int32) -> [UInt8] { language.bytes(of: token) }
  package func isControl(_ token: Int32) -> Bool { language.isControl(token) }

  /// The template for conversations: the model's own, unless `useChatTemplate` gave another.
  /// - Throws: `data` where the model has no template, or one that cannot be read.
  public func chatTemplate() throws(LadderError) -> ChatTemplate {
    try LadderError.unify { try language.chatTemplate() }
  }

  /// Renders conversations otherwise from here on.
  /// - Parameters:
  ///   - source: a Jinja template in place of the model's own; nil for that one.
  ///   - options: what the template is given by name beside what a conversation gives, each a JSON value.
  public func useChatTemplate(_ source: String?, options: [String: String] = [:]) {
    language.useChatTemplate(source, options: options)
  }
}
