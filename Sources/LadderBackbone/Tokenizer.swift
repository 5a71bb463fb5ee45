import CLlama
import LadderCore
import LadderData

/// The tokenizer that the model's file carries, run by llama.cpp.
package struct Tokenizer: @unchecked Sendable {
  let vocabulary: OpaquePointer
  let control: ControlTokens
  package let controlNames: [String]
  /// Keeps the model, and with it the vocabulary, alive.
  private let owner: AnyObject

  init(vocabulary: OpaquePointer, owner: AnyObject) {
    self.vocabulary = vocabulary
    self.owner = owner
    control = ControlTokens(vocabulary)
    controlNames = control.names
  }

  /// Entries of the vocabulary.
  package var count: Int { Int(llama_vocab_n_tokens(vocabulary)) }
  package var addsBeginning: Bool { llama_vocab_get_add_bos(vocabulary) }
  package var beginning: Int32? { token(llama_vocab_bos(vocabulary)) }
  /// The token that ends a text; the end-of-turn token where there is none.
  package var end: Int32? { token(llama_vocab_eos(vocabulary)) ?? token(llama_vocab_eot(vocabulary)) }

  package func endsGeneration(_ token: Int32) -> Bool { llama_vocab_is_eog(vocabulary, token) }

  /// Never with the end-of-text token that some vocabularies put behind every text: a prompt has none.
  /// - Parameters:
  ///   - beginning: put the beginning-of-text token first, where the model wants one and the text does not have it.
  ///   - special: read control tokens' names as those tokens, as chat templates need; false treats them as text.
  package func tokens(_ text: String, beginning: Bool = false, special: Bool = false) -> [Int32] {
    var text = text
    let tokens = text.withUTF8 { self.tokens(UnsafeRawBufferPointer($0), special: special) }
    return beginning ? begun(tokens) : tokens
  }

  private func begun(_ tokens: [Int32]) -> [Int32] {
    guard addsBeginning, let beginning, tokens.first != beginning else { return tokens }
    return [beginning] + tokens
  }

  private func tokens(_ utf8: UnsafeRawBufferPointer, special: Bool) -> [Int32] {
    guard llama_vocab_type(vocabulary) == LLAMA_VOCAB_TYPE_BPE else { return run(utf8, special: special) }
    return TokenizerStack.cuts(utf8).flatMap { range in
      let piece = UnsafeRawBufferPointer(rebasing: utf8[range])
      return TokenizerStack.with(matchOf: TokenizerStack.match(in: piece)) { run(piece, special: special) }
    }
  }

  private func run(_ utf8: UnsafeRawBufferPointer, special: Bool) -> [Int32] {
    let bytes = utf8.bindMemory(to: CChar.self)
    if bytes.isEmpty { return [] }
    var capacity = bytes.count + 8
    while true {
      var written: Int32 = 0
      let tokens = [Int32](unsafeUninitializedCapacity: capacity) { buffer, filled in
        written = llama_tokenize(
          vocabulary, bytes.baseAddress, Int32(bytes.count), buffer.baseAddress, Int32(capacity), false, special)
        filled = max(0, Int(written))
      }
      if written >= 0 { return tokens }
      capacity = Int(-written)
    }
  }

  /// A rendered conversation's tokens and their places in it. Names of control tokens are those tokens where the
  /// template wrote them, and letters where somebody did.
  package func tokens(of rendered: RenderedText) throws -> PlacedTokens {
    var tokens: [Int32]
    if rendered.literals.isEmpty {
      tokens = rendered.bytes.withUnsafeBytes { self.tokens($0, special: true) }
    } else {
      tokens = control.parts(of: rendered).flatMap { part in
        switch part {
        case .token(let token): [token]
        case .text(let bytes): bytes.withUnsafeBytes { self.tokens($0, special: false) }
        }
      }
    }
    var ends = try places(of: tokens, in: rendered.bytes)
    let all = begun(tokens)
    if all.count > tokens.count { ends.insert(0, at: 0) }
    return PlacedTokens(tokens: all, ends: ends)
  }

  /// For each token the offset behind it in the text that it was made from. Spaces that the tokenizer puts before a
  /// text, and those that a control token takes with it, have no place of their own.
  private func places(of tokens: [Int32], in text: [UInt8]) throws -> [Int] {
    var ends: [Int] = [], offset = 0
    ends.reserveCapacity(tokens.count)
    for token in tokens {
      let piece = bytes(of: token, special: true)
      guard
        let end = Self.match(piece[...], text, offset)
          ?? (piece.first == 0x20 ? Self.match(piece[1...], text, offset) : nil)
          ?? Self.match(piece[...], text, Self.behindSpace(text, offset))
      else {
        throw LadderError(
          .data,
          "the model's tokenizer changes the conversation's text, so that its turns cannot be found among the "
            + "tokens; write prompt and completion")
      }
      offset = end
      ends.append(offset)
    }
    return ends
  }

  /// Behind the piece, where the text goes on with it. A space may be written as U+2581, as SentencePiece keeps it.
  private static func match(_ piece: ArraySlice<UInt8>, _ text: [UInt8], _ start: Int) -> Int? {
    var offset = start
    for byte in piece {
      if offset < text.count, text[offset] == byte {
        offset += 1
      } else if byte == 0x20, text[offset...].starts(with: [0xE2, 0x96, 0x81]) {
        offset += 3
      } else {
        return nil
      }
    }
    return offset
  }

  private static func behindSpace(_ text: [UInt8], _ start: Int) -> Int {
    text[start...].firstIndex { $0 != 0x20 && !(0x09...0x0D).contains($0) } ?? text.count
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
