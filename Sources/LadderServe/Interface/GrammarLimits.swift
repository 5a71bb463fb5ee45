import LadderData

/// What llama.cpp is given of grammars, schemas and tools: its parsers go down a level of the stack for each level of
/// theirs.
enum GrammarLimits {
  /// Bytes, levels, rules, and bytes of one string.
  static let bytes = 1 << 16, depth = 32, rules = 1000, string = 4096

  static func check(_ grammar: String) throws {
    var level = 0, deepest = 0, quote: UInt8?, isEscaped = false
    for byte in grammar.utf8 {
      defer { isEscaped = !isEscaped && byte == UInt8(ascii: "\\") }
      if let open = quote {
        if byte == open, !isEscaped { quote = nil }
      } else if byte == UInt8(ascii: "\"") {
        quote = byte
      } else if byte == UInt8(ascii: "[") {
        quote = UInt8(ascii: "]")
      } else if byte == UInt8(ascii: "(") {
        level += 1
        deepest = max(deepest, level)
      } else if byte == UInt8(ascii: ")") {
        level -= 1
      }
    }
    guard grammar.utf8.count <= bytes, deepest <= depth, grammar.components(separatedBy: "::=").count <= rules else {
      throw APIError.bad("grammar", "grammar has more than \(bytes) bytes, \(depth) levels or \(rules) rules")
    }
  }

  static func check(_ schema: JSONText, _ field: String) throws {
    let extent = schema.extent
    guard schema.bytes.count <= bytes, extent.depth <= depth, extent.longestString <= string else {
      throw APIError.bad(
        field, "\(field) has more than \(bytes) bytes, \(depth) levels or \(string) bytes in one string")
    }
  }
}
