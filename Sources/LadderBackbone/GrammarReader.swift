/// llama.cpp's notation; brackets become rules of their own.
struct GrammarReader {
  /// A part of an alternative.
  struct Symbol {
    enum Kind {
      /// Characters that stand one behind another.
      case letters([UInt32])
      case rule(Int)
    }
    var kind: Kind
    /// Whether it may be left out, and may come again.
    var isOptional = false, repeats = false
  }

  typealias Alternative = [Symbol]
  private let text: [UInt8]
  private var place = 0
  private var rules: [[Alternative]] = []
  private var names: [[UInt8]: Int] = [:]

  init(_ text: [UInt8]) { self.text = text }

  private var byte: UInt8? { place < text.count ? text[place] : nil }

  private mutating func skipSpace(lines: Bool) {
    while let byte {
      if byte == UInt8(ascii: "#") {
        while let byte = self.byte, byte != 0x0A, byte != 0x0D { place += 1 }
      } else if byte == 0x20 || byte == 0x09 || lines && (byte == 0x0A || byte == 0x0D) {
        place += 1
      } else {
        return
      }
    }
  }

  private mutating func rule(named name: [UInt8]) -> Int {
    if let known = names[name] { return known }
    names[name] = rules.count
    rules.append([])
    return rules.count - 1
  }

  private mutating func name() -> [UInt8]? {
    let start = place
    while let byte, GrammarWork.isOfName(byte) { place += 1 }
    return start < place ? Array(text[start..<place]) : nil
  }

  /// - Returns: the rules; nil for what is no grammar.
  mutating func read() -> [[Alternative]]? {
    skipSpace(lines: true)
    while byte != nil {
      guard let name = name() else { return nil }
      skipSpace(lines: false)
      guard text[place...].starts(with: "::=".utf8) else { return nil }
      place += 3
      skipSpace(lines: true)
      let rule = rule(named: name)
      guard let alternatives = alternatives(inBrackets: false) else { return nil }
      rules[rule] = alternatives
      skipSpace(lines: true)
    }
    return rules.isEmpty ? nil : rules
  }

  /// Up to the closing bracket or the line's end.
  private mutating func alternatives(inBrackets: Bool) -> [Alternative]? {
    var result: [Alternative] = [[]]
    while true {
      skipSpace(lines: inBrackets)
      guard let byte else { return inBrackets ? nil : result }
      switch byte {
      case 0x0A, 0x0D: return result
      case UInt8(ascii: ")"): return inBrackets ? result : nil
      case UInt8(ascii: "|"):
        place += 1
        skipSpace(lines: true)
        result.append([])
      default:
        guard let symbol = symbol() else { return nil }
        result[result.count - 1].append(symbol)
      }
    }
  }

  private mutating func symbol() -> Symbol? {
    guard let byte else { return nil }
    var symbol: Symbol
    switch byte {
    case UInt8(ascii: "\""):
      guard let letters = past(UInt8(ascii: "\"")) else { return nil }
      symbol = Symbol(kind: .letters(letters))
    case UInt8(ascii: "["):
      guard past(UInt8(ascii: "]")) != nil else { return nil }
      symbol = Symbol(kind: .letters([0]))
    case UInt8(ascii: "!"), UInt8(ascii: "<"):
      guard past(UInt8(ascii: ">")) != nil else { return nil }
      symbol = Symbol(kind: .letters([0]))
    case UInt8(ascii: "."):
      place += 1
      symbol = Symbol(kind: .letters([0]))
    case UInt8(ascii: "("):
      place += 1
      guard let inner = alternatives(inBrackets: true) else { return nil }
      place += 1
      rules.append(inner)
      symbol = Symbol(kind: .rule(rules.count - 1))
    default:
      guard let name = name() else { return nil }
      symbol = Symbol(kind: .rule(rule(named: name)))
    }
    while let byte = self.byte,
      [UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "?"), UInt8(ascii: "{")].contains(byte)
    {
      if byte != UInt8(ascii: "+") {
        symbol.isOptional = symbol.isOptional || byte != UInt8(ascii: "{") || least == 0
      }
      symbol.repeats = symbol.repeats || byte != UInt8(ascii: "?")
      if byte == UInt8(ascii: "{") { guard past(UInt8(ascii: "}")) != nil else { return nil } } else { place += 1 }
    }
    return symbol
  }

  /// The first number of a bound.
  private var least: Int? {
    let digits = text[(place + 1)...].drop { $0 == 0x20 }.prefix { (0x30...0x39).contains($0) }
    return digits.isEmpty ? 0 : Int(String(decoding: digits, as: UTF8.self))
  }

  /// Past the next such byte that is not escaped.
  /// - Returns: the letters before it; those of a text in characters, others in bytes.
  private mutating func past(_ end: UInt8) -> [UInt32]? {
    var letters: [UInt32] = []
    place += 1
    while let byte, byte != end {
      place += 1
      guard byte == UInt8(ascii: "\\") else {
        letters.append(UInt32(byte))
        continue
      }
      guard let kind = self.byte else { return nil }
      place += 1
      let digits = [UInt8(ascii: "x"): 2, UInt8(ascii: "u"): 4, UInt8(ascii: "U"): 8][kind] ?? 0
      if digits == 0 {
        letters.append(UInt32(["n": 10, "r": 13, "t": 9][Character(UnicodeScalar(kind))] ?? Int(kind)))
      } else {
        let code = UInt32(String(decoding: text[place...].prefix(digits), as: UTF8.self), radix: 16)
        place = min(place + digits, text.count)
        // As its bytes: one letter may be written in several ways.
        letters += code.flatMap(UnicodeScalar.init).map { String(Character($0)).utf8.map(UInt32.init) } ?? [code ?? 0]
      }
    }
    guard byte != nil else { return nil }
    place += 1
    return letters
  }
}
