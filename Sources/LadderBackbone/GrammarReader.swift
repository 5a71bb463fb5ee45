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
    /// Of what may be left out as it is: as often as it may come.
    var times = 1
    /// What the bound is of may be left out without it.
    var wasOptional = false
  }

  /// Brackets in brackets: llama.cpp writes one for each letter of a property's name.
  static let mostLevels = 256

  typealias Alternative = [Symbol]
  private let text: [UInt8]
  private var place = 0
  private var rules: [[Alternative]] = []
  private var names: [[UInt8]: Int] = [:]
  private var level = 0
  /// Elements that bounds ask for, all added up.
  private(set) var repeats = 0
  private(set) var isTooDeep = false

  init(_ text: [UInt8]) { self.text = text }

  /// Where the reading stopped, by line and byte from 1.
  var position: String {
    let before = text.prefix(place), start = before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
    return "line \(before.count { $0 == 0x0A } + 1), byte \(place - start + 1)"
  }

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
    while let byte, Self.isOfName(byte) { place += 1 }
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
        guard let symbol = symbol(inBrackets: inBrackets) else { return nil }
        result[result.count - 1].append(symbol)
      }
    }
  }

  private mutating func symbol(inBrackets: Bool) -> Symbol? {
    guard let byte else { return nil }
    let start = place
    var symbol: Symbol
    switch byte {
    case UInt8(ascii: "\""):
      guard let letters = past(UInt8(ascii: "\"")) else { return nil }
      symbol = Symbol(kind: .letters(letters))
    case UInt8(ascii: "["):
      let isNegated = text[(place + 1)...].first == UInt8(ascii: "^")
      guard let letters = past(UInt8(ascii: "]")) else { return nil }
      // To llama.cpp a class of nothing is nothing.
      symbol = Symbol(kind: .letters(letters.count > (isNegated ? 1 : 0) ? [0] : []))
    case UInt8(ascii: "!"), UInt8(ascii: "<"):
      guard let end = text[place...].firstIndex(of: UInt8(ascii: ">")) else { return nil }
      place = end + 1
      symbol = Symbol(kind: .letters([0]))
    case UInt8(ascii: "."):
      place += 1
      symbol = Symbol(kind: .letters([0]))
    case UInt8(ascii: "("):
      level += 1
      isTooDeep = level > Self.mostLevels
      place += 1
      guard !isTooDeep, let inner = alternatives(inBrackets: true) else { return nil }
      place += 1
      level -= 1
      rules.append(inner)
      symbol = Symbol(kind: .rule(rules.count - 1))
    default:
      guard let name = name() else { return nil }
      symbol = Symbol(kind: .rule(rule(named: name)))
    }
    // Elements of the symbol, as many as may be: a bound repeats all of them, those of a rule once.
    var elements = 1
    if case .letters = symbol.kind { elements = place - start }
    while true {
      skipSpace(lines: inBrackets)
      switch self.byte {
      case UInt8(ascii: "*"): (symbol.isOptional, symbol.repeats) = (true, true)
      case UInt8(ascii: "+"): symbol.repeats = true
      case UInt8(ascii: "?"): symbol.isOptional = true
      case UInt8(ascii: "{"):
        guard let end = text[place...].firstIndex(of: UInt8(ascii: "}")) else { return nil }
        let bounds = text[place..<end].split { !(0x30...0x39).contains($0) }.map {
          Int(String(decoding: $0.prefix(9), as: UTF8.self)) ?? 0
        }
        symbol.wasOptional = symbol.isOptional
        let copies = Self.copies(bounds)
        repeats = min(repeats + copies * elements, 1 << 40)
        symbol.times = min(1 << 20, symbol.times * copies)
        if bounds.first ?? 0 == 0 { symbol.isOptional = true }
        symbol.repeats = true
        place = end
      default: return symbol
      }
      place += 1
    }
  }

  /// How often llama.cpp writes what a bound is of: an upper one above 2,000 is none to it.
  private static func copies(_ bounds: [Int]) -> Int {
    bounds.count == 2 && bounds[1] > 2000 ? max(1, bounds[0]) : bounds.max() ?? 1
  }

  private static func isOfName(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
      || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
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
      switch kind {
      case UInt8(ascii: "n"): letters.append(10)
      case UInt8(ascii: "r"): letters.append(13)
      case UInt8(ascii: "t"): letters.append(9)
      case UInt8(ascii: "\\"), UInt8(ascii: "\""), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: "-"):
        letters.append(UInt32(kind))
      default:
        guard let size = [UInt8(ascii: "x"): 2, UInt8(ascii: "u"): 4, UInt8(ascii: "U"): 8][kind] else { return nil }
        let digits = text[place...].prefix(size)
        guard digits.count == size, digits.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit }),
          let code = UInt32(String(decoding: digits, as: UTF8.self), radix: 16)
        else { return nil }
        place += size
        // As its bytes: one letter may be written in several ways.
        letters += UnicodeScalar(code).map { String(Character($0)).utf8.map(UInt32.init) } ?? [code]
      }
    }
    guard byte != nil else { return nil }
    place += 1
    return letters
  }
}
