import Foundation
import LadderData

/// What llama.cpp is given of grammars, schemas and tools: its parsers go down a level of the stack for each level of
/// theirs, and write more rules than anybody waits for of some that are short.
enum GrammarLimits {
  /// Bytes, levels, rules, and bytes of one string.
  static let bytes = 1 << 16, depth = 32, rules = 1000, string = 4096
  /// Properties of an object that may be left out, and parts of a schema, each once for every type that it may be of.
  static let optional = 200, parts = 20_000

  static func check(_ grammar: String) throws {
    guard grammar.utf8.count <= bytes, grammar.components(separatedBy: "::=").count <= rules else {
      throw APIError.bad("grammar", "grammar has more than \(bytes) bytes or \(rules) rules")
    }
    // What it says of a grammar that it cannot read, llama.cpp writes to the log itself.
    guard
      grammar.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F || "\n\r\t".unicodeScalars.contains($0) }
      )
    else { throw APIError.bad("grammar", "grammar holds a control character") }
  }

  static func check(_ schema: JSONText, _ field: String) throws {
    try checkSize(schema, field)
    try SchemaWork(root: schema, field).check()
  }

  static func check(tools: JSONText) throws {
    try checkSize(tools, "tools")
    for tool in tools.elements {
      let function = tool.object["function"]?.object ?? tool.object
      if let schema = function["parameters"] { try SchemaWork(root: schema, "tools").check() }
    }
  }

  private static func checkSize(_ json: JSONText, _ field: String) throws {
    let extent = json.extent
    guard json.bytes.count <= bytes, extent.depth <= depth, extent.longestString <= string else {
      throw APIError.bad(
        field, "\(field) has more than \(bytes) bytes, \(depth) levels or \(string) bytes in one string")
    }
  }
}

/// What llama.cpp would write of a JSON schema.
private final class SchemaWork {
  private let root: JSONText
  private let field: String
  /// References that lead to an end, and what lies at a place of the root.
  private var ended: Set<String> = [], found: [Substring: [String: JSONText]] = [:]

  /// References to references at most.
  private static let longestChain = 32

  init(root: JSONText, _ field: String) {
    self.root = root
    self.field = field
  }

  func check() throws {
    guard try parts(of: root) <= GrammarLimits.parts else {
      throw APIError.bad(
        field, "\(field) has more than \(GrammarLimits.parts) parts, each once for every type that it may be of")
    }
  }

  private func requireFew(_ optional: Int) throws {
    guard optional <= GrammarLimits.optional else {
      throw APIError.bad(
        field, "an object of \(field) has more than \(GrammarLimits.optional) properties that may be left out")
    }
  }

  /// All values of a schema; below one of several types each counts once for every type.
  private func parts(of value: JSONText) throws -> Int {
    if value.isList { return try value.elements.reduce(1) { min($0 + (try parts(of: $1)), 1 << 40) } }
    guard value.isObject else { return 1 }
    let members = value.object
    if let target = members["$ref"]?.string { try requireEnd(of: target) }
    if members["properties"] != nil { try requireFew(Self.optional(in: members)) }
    if members["allOf"] != nil {
      var known: [String: Int] = [:]
      try requireFew(together(value, &known, level: 0))
    }
    let types = max(1, members["type"]?.elements.count ?? 1)
    return min(types * (try members.values.reduce(1) { min($0 + (try parts(of: $1)), 1 << 40) }), 1 << 40)
  }

  private static func optional(in members: [String: JSONText]) -> Int {
    let required = Set((members["required"]?.elements ?? []).compactMap(\.string))
    return (members["properties"]?.members ?? []).count { !required.contains($0.name) }
  }

  /// Properties that are put into one object and may be left out: those of alternatives among its parts, and of what
  /// they refer to. To llama.cpp all of a part itself are required.
  private func together(
    _ value: JSONText, _ known: inout [String: Int], level: Int, isAlternative: Bool = false
  ) -> Int {
    guard level < GrammarLimits.depth else { return GrammarLimits.optional + 1 }
    let members = value.object
    if let target = members["$ref"]?.string {
      let key = "\(isAlternative) \(target)"
      if let count = known[key] { return count }
      known[key] = 0
      let found = self.value(at: target)
      let count = found.map { together($0, &known, level: level + 1, isAlternative: isAlternative) } ?? 0
      known[key] = count
      return count
    }
    let isOptional = isAlternative || members["type"]?.isList == true
    let own = isOptional ? members["properties"]?.members.count ?? 0 : 0
    return ["allOf", "anyOf", "oneOf"].reduce(own) { sum, key in
      (members[key]?.elements ?? []).reduce(sum) {
        min($0 + together($1, &known, level: level + 1, isAlternative: isOptional || key != "allOf"), 1 << 30)
      }
    }
  }

  /// - Throws: where a reference leads to one that leads back to it.
  private func requireEnd(of reference: String) throws {
    var chain = [reference]
    while let last = chain.last, !ended.contains(last), let next = value(at: last)?.object["$ref"]?.string {
      guard chain.count < Self.longestChain else {
        throw APIError.bad(
          field, "a $ref of \(field) leads back to itself, or over more than \(Self.longestChain) others")
      }
      chain.append(next)
    }
    ended.formUnion(chain)
  }

  /// What a reference within the schema names.
  private func value(at reference: String) -> JSONText? {
    guard reference.hasPrefix("#") else { return nil }
    var value = root, end = reference.startIndex
    for part in reference.dropFirst().split(separator: "/") {
      let above = reference[..<end]
      end = part.endIndex
      let name = (part.removingPercentEncoding ?? String(part)).replacing("~1", with: "/").replacing("~0", with: "~")
      let members =
        found[above]
        ?? (value.isList
          ? Dictionary(uniqueKeysWithValues: value.elements.enumerated().map { (String($0.offset), $0.element) })
          : value.object)
      found[above] = members
      guard let next = members[name] else { return nil }
      value = next
    }
    return value
  }
}
