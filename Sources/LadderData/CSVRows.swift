import LadderCore

/// The rows of a table in RFC 4180's form, read as bytes: rows end with a line feed, a carriage return or both, and a
/// cell in quotes holds what it likes, its quotes doubled. Blanks around the quotes are no part of the cell.
struct CSVRows {
  enum Problem: Error {
    case open
    case quoteInside
  }

  private let text: UnsafeRawBufferPointer
  private let separator: UInt8
  private var place = 0
  private var line = 1

  private static let quote = UInt8(ascii: "\""), feed = UInt8(ascii: "\n"), carriage = UInt8(ascii: "\r")

  init(_ text: UnsafeRawBufferPointer, separator: UInt8) {
    self.text = text
    self.separator = separator
  }

  /// The separator that the heading has most of: a comma where it has none.
  static func separator(ofHeading heading: some Sequence<UInt8>) -> UInt8 {
    var counts: [UInt8: Int] = [:], isQuoted = false
    for byte in heading {
      if byte == quote { isQuoted.toggle() } else if !isQuoted { counts[byte, default: 0] += 1 }
    }
    return [",", ";", "\t"].map { UInt8(ascii: $0) }.max { counts[$0, default: 0] < counts[$1, default: 0] }
      ?? UInt8(ascii: ",")
  }

  /// The line on which the next row begins.
  var nextLine: Int { line }

  /// The next row's cells; nil at the end.
  mutating func next() throws(Problem) -> [String]? {
    guard place < text.count else { return nil }
    var cells: [String] = []
    repeat { cells.append(try cell()) } while takes(separator)
    if takes(Self.carriage) {
      _ = takes(Self.feed)
      line += 1
    } else if takes(Self.feed) {
      line += 1
    }
    return cells
  }

  private mutating func takes(_ byte: UInt8) -> Bool {
    guard place < text.count, text[place] == byte else { return false }
    place += 1
    return true
  }

  private mutating func skipBlanks() {
    while place < text.count, text[place] == 0x20 || text[place] == 0x09, text[place] != separator { place += 1 }
  }

  private mutating func cell() throws(Problem) -> String {
    let start = place
    skipBlanks()
    guard takes(Self.quote) else {
      while place < text.count, text[place] != separator, text[place] != Self.feed, text[place] != Self.carriage {
        if text[place] == Self.quote { throw .quoteInside }
        place += 1
      }
      return string(start..<place)
    }
    return try quoted()
  }

  /// The rest of a cell behind its first quote.
  private mutating func quoted() throws(Problem) -> String {
    var result = "", start = place
    while place < text.count {
      let byte = text[place]
      if byte == Self.feed || (byte == Self.carriage && (place + 1 == text.count || text[place + 1] != Self.feed)) {
        line += 1
      }
      place += 1
      guard byte == Self.quote else { continue }
      result += string(start..<place - 1)
      start = place
      if takes(Self.quote) { continue }  // the second of two begins what follows
      skipBlanks()
      let ends = place == text.count || [separator, Self.feed, Self.carriage].contains(text[place])
      guard ends else { throw .quoteInside }
      return result
    }
    throw .open
  }

  private func string(_ range: Range<Int>) -> String {
    String(decoding: UnsafeRawBufferPointer(rebasing: text[range]), as: UTF8.self)
  }
}
