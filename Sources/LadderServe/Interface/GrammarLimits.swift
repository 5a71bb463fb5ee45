import LadderData

/// What llama.cpp is given of grammars, schemas and tools: its parsers go down a level of the stack for each level of
/// theirs.
enum GrammarLimits {
  /// Bytes, levels, rules, and bytes of one string.
  static let bytes = 1 << 16, depth = 32, rules = 1000, string = 4096

  static func check(_ grammar: String) throws {
    guard grammar.utf8.count <= bytes, grammar.components(separatedBy: "::=").count <= rules else {
      throw APIError.bad("grammar", "grammar has more than \(bytes) bytes or \(rules) rules")
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
