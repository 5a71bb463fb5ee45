import CLlama
import LadderCore
import LadderData

/// A vocabulary's control tokens: names that only templates write.
struct ControlTokens {
  struct Entry {
    var token: Int32
    var name: [UInt8]
    /// Whether whitespace before or behind the name belongs to the token.
    var takesBefore: Bool
    var takesBehind: Bool
  }

  /// Longest name first.
  let entries: [Entry]
  let tokens: Set<Int32>
  /// Of their names.
  let index: NameIndex

  init(_ vocabulary: OpaquePointer) {
    let kinds = LLAMA_TOKEN_ATTR_CONTROL.rawValue | LLAMA_TOKEN_ATTR_UNKNOWN.rawValue
    var entries: [Entry] = []
    for token in 0..<llama_vocab_n_tokens(vocabulary) {
      let attributes = llama_vocab_get_attr(vocabulary, token).rawValue
      guard attributes & kinds != 0, let text = llama_vocab_get_text(vocabulary, token) else { continue }
      let name = Array(String(cString: text).utf8)
      if name.isEmpty { continue }
      entries.append(
        Entry(
          token: token, name: name, takesBefore: attributes & LLAMA_TOKEN_ATTR_LSTRIP.rawValue != 0,
          takesBehind: attributes & LLAMA_TOKEN_ATTR_RSTRIP.rawValue != 0))
    }
    tokens = Set(entries.map(\.token))
    self.entries = entries.sorted { $0.name.count > $1.name.count }
    index = NameIndex(self.entries.map(\.name))
  }

  var names: [String] { entries.map { String(decoding: $0.name, as: UTF8.self) } }

  /// A part of a text: letters, or a control token.
  enum Part {
    case text(ArraySlice<UInt8>)
    case token(Int32)
  }

  /// Cuts a text at the names that are control tokens in it.
  func parts(of text: RenderedText) -> [Part] {
    let bytes = text.bytes
    var result: [Part] = [], start = 0, index = 0
    func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
    while index < bytes.count {
      guard let name = self.index.longest(in: bytes, at: index) else {
        index += 1
        continue
      }
      let entry = entries[name.place]
      if text.literals.contains(index + name.firstCharacter) {
        index += entry.name.count
        continue
      }
      var before = bytes[start..<index]
      if entry.takesBefore { while let last = before.last, isSpace(last) { before.removeLast() } }
      if !before.isEmpty { result.append(.text(before)) }
      result.append(.token(entry.token))
      index += entry.name.count
      if entry.takesBehind { while index < bytes.count, isSpace(bytes[index]) { index += 1 } }
      start = index
    }
    if start < bytes.count { result.append(.text(bytes[start...])) }
    return result
  }
}
