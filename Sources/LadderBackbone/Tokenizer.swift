import CLlama
import LadderData

/// The tokenizer that the model's file carries, run by llama.cpp.
package struct Tokenizer: @unchecked Sendable {
  let vocabulary: OpaquePointer
  /// Keeps the model, and with it the vocabulary, alive.
  private let owner: AnyObject

  init(vocabulary: OpaquePointer, owner: AnyObject) {
    self.vocabulary = vocabulary
    self.owner = owner
  }

  /// Entries of the vocabulary.
  package var count: Int { Int(llama_vocab_n_tokens(vocabulary)) }
  package var addsBeginning: Bool { llama_vocab_get_add_bos(vocabulary) }
  package var beginning: Int32? { token(llama_vocab_bos(vocabulary)) }
  /// The token that ends a text; the end-of-turn token where there is none.
  package var end: Int32? { token(llama_vocab_eos(vocabulary)) ?? token(llama_vocab_eot(vocabulary)) }

  package func endsGeneration(_ token: Int32) -> Bool { llama_vocab_is_eog(vocabulary, token) }

  /// - Parameters:
  ///   - beginning: put the beginning-of-text token first, where the model wants one.
  ///   - special: read control tokens' names as those tokens, as chat templates need; false treats them as text.
  package func tokens(_ text: String, beginning: Bool = false, special: Bool = false) -> [Int32] {
    var text = text
    return text.withUTF8 { utf8 in
      utf8.withMemoryRebound(to: CChar.self) { bytes in
        var capacity = bytes.count + 8
        while true {
          var written: Int32 = 0
          let tokens = [Int32](unsafeUninitializedCapacity: capacity) { buffer, filled in
            written = llama_tokenize(
              vocabulary, bytes.baseAddress, Int32(bytes.count), buffer.baseAddress, Int32(capacity), beginning, special
            )
            filled = max(0, Int(written))
          }
          if written >= 0 { return tokens }
          capacity = Int(-written)
        }
      }
    }
  }

  /// The text of a token, which may be a part of a character, as UTF-8 bytes.
  package func bytes(of token: Int32, special: Bool = false) -> [UInt8] {
    var buffer = [CChar](repeating: 0, count: 64)
    var length = llama_token_to_piece(vocabulary, token, &buffer, Int32(buffer.count), 0, special)
    if length < 0 {
      buffer = [CChar](repeating: 0, count: Int(-length))
      length = llama_token_to_piece(vocabulary, token, &buffer, Int32(buffer.count), 0, special)
    }
    return buffer.prefix(Int(max(0, length))).map { UInt8(bitPattern: $0) }
  }

  package func text(_ tokens: [Int32], special: Bool = false) -> String {
    String(decoding: tokens.flatMap { bytes(of: $0, special: special) }, as: UTF8.self)
  }

  private func token(_ value: llama_token) -> Int32? { value < 0 ? nil : value }
}

extension Backbone: Tokenizing {
  package var addsBeginning: Bool { tokenizer.addsBeginning }
  package var beginning: Int32? { tokenizer.beginning }
  package var end: Int32? { tokenizer.end }
  package var sharesBeginnings: Bool { !takesOneSequence }

  package func tokens(_ text: String, beginning: Bool, special: Bool) -> [Int32] {
    tokenizer.tokens(text, beginning: beginning, special: special)
  }

  package func rendered(_ messages: [ChatMessage], opensAnswer: Bool) throws -> String {
    try chatTemplate().render(messages, opensAnswer: opensAnswer)
  }
}
