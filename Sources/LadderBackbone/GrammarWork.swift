import LadderCore

/// What llama.cpp's parser of grammars would have to do: it repeats what is to be repeated, and follows a rule's first
/// symbols to every rule that they may lead to, by every way, and goes down a level of the stack for each bracket. All of
/// it may be more than any memory or patience for a few hundred bytes.
struct GrammarWork {
  /// Elements that bounds like `{0,2000}` ask for, all added up, and ways from one rule to others.
  static let mostRepeats = 20_000, mostWays = 1e6

  private var references: [[UInt8]: [[UInt8]]] = [:]
  private var repeats = 0

  /// - Throws: `usage` for a grammar that would take too long to read.
  static func check(_ grammar: String) throws(LadderError) {
    let work = GrammarWork(Array(grammar.utf8))
    guard work.repeats <= mostRepeats else {
      throw LadderError(.usage, "the grammar's bounds add up to \(work.repeats) elements; \(mostRepeats) may be")
    }
    guard work.ways() <= mostWays else {
      throw LadderError(.usage, "the grammar's rules lead to each other in too many ways")
    }
    var reader = GrammarReader(Array(grammar.utf8))
    guard let rules = reader.read() else {
      throw LadderError(
        .usage,
        reader.isTooDeep
          ? "the grammar has more than \(GrammarReader.mostLevels) levels of brackets"
          : "the grammar cannot be read at \(reader.position)")
    }
    try GrammarPaths(rules).check()
  }

  private init(_ text: [UInt8]) {
    var place = 0, current: [UInt8] = []
    // Elements of the symbol before, as many as may be: a bound repeats all of them.
    var size = 1
    /// Past the next such byte that is not escaped.
    func skip(to end: UInt8) {
      place += 1
      while place < text.count, text[place] != end { place += text[place] == UInt8(ascii: "\\") ? 2 : 1 }
      place += 1
    }
    while place < text.count {
      switch text[place] {
      case UInt8(ascii: "\""), UInt8(ascii: "["):
        let start = place
        skip(to: text[place] == UInt8(ascii: "[") ? UInt8(ascii: "]") : UInt8(ascii: "\""))
        size = max(1, place - start)
      case UInt8(ascii: "#"):
        // To the end of the line, whatever stands there.
        while place < text.count, ![UInt8(ascii: "\n"), UInt8(ascii: "\r")].contains(text[place]) { place += 1 }
      case UInt8(ascii: ")"):
        size = 1
        place += 1
      case UInt8(ascii: "{"):
        let start = place
        skip(to: UInt8(ascii: "}"))
        let bounds = text[start..<min(place, text.count)].split { !Self.isDigit($0) }
        let most = Self.copies(bounds.map { Int(String(decoding: $0.prefix(9), as: UTF8.self)) ?? 0 })
        repeats = min(repeats + most * size, 1 << 40)
      case let byte where Self.isOfName(byte):
        let start = place
        while place < text.count, Self.isOfName(text[place]) { place += 1 }
        size = 1
        let name = Array(text[start..<place])
        var next = place
        while next < text.count, [UInt8(ascii: " "), UInt8(ascii: "\t")].contains(text[next]) { next += 1 }
        if text[next...].starts(with: "::=".utf8) {
          current = name
          place = next + 3
        } else {
          references[current, default: []].append(name)
        }
      default:
        if text[place] == UInt8(ascii: ".") { size = 1 }
        place += 1
      }
    }
  }

  /// The most ways from one rule, as if each might begin with any of its symbols. A rule that leads back to itself adds
  /// one there.
  private func ways() -> Double {
    var known: [[UInt8]: Double] = [:], most = 1.0
    for first in references.keys where known[first] == nil {
      // By a list and not by calls: a chain of rules may be long.
      var open: [(name: [UInt8], next: Int, sum: Double)] = [(first, 0, 1)]
      known[first] = 1
      while let last = open.last {
        let all = references[last.name] ?? []
        guard last.next < all.count else {
          known[last.name] = last.sum
          most = max(most, last.sum)
          open.removeLast()
          if let above = open.indices.last { open[above].sum += last.sum }
          continue
        }
        open[open.count - 1].next += 1
        let reference = all[last.next]
        if let ways = known[reference] {
          open[open.count - 1].sum += ways
        } else {
          known[reference] = 1
          open.append((reference, 0, 1))
        }
      }
    }
    return most
  }

  /// How often llama.cpp writes what a bound is of: an upper one above 2,000 is none to it.
  static func copies(_ bounds: [Int]) -> Int {
    bounds.count == 2 && bounds[1] > 2000 ? max(1, bounds[0]) : bounds.max() ?? 1
  }

  private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

  static func isOfName(_ byte: UInt8) -> Bool {
    isDigit(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
      || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
  }
}
