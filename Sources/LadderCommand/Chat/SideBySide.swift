import Foundation

/// Two texts that come at the same time, in two columns: a row is written once both have it whole.
struct SideBySide {
  private let width: Int
  private var left = Column()
  private var right = Column()

  /// - Parameter width: of both columns with the bar between them.
  init(width: Int, titles: (String, String)) {
    self.width = max(10, (width - 3) / 2)
    left.take(titles.0 + "\n", self.width)
    right.take(titles.1 + "\n", self.width)
  }

  /// - Returns: rows that are whole now.
  mutating func take(left text: String) -> [String] {
    left.take(text, width)
    return rows()
  }

  mutating func take(right text: String) -> [String] {
    right.take(text, width)
    return rows()
  }

  /// Nothing more comes on a side.
  mutating func endLeft() -> [String] {
    left.end()
    return rows()
  }

  mutating func endRight() -> [String] {
    right.end()
    return rows()
  }

  private mutating func rows() -> [String] {
    var rows: [String] = []
    while let row = row() { rows.append(row) }
    return rows
  }

  private mutating func row() -> String? {
    guard left.isReady, right.isReady, !left.lines.isEmpty || !right.lines.isEmpty else { return nil }
    let a = left.lines.isEmpty ? "" : left.lines.removeFirst(), b = right.lines.isEmpty ? "" : right.lines.removeFirst()
    return a + String(repeating: " ", count: max(0, width - Column.columns(a))) + " │ " + b
  }

  private struct Column {
    /// Lines that are whole.
    var lines: [String] = []
    private var open = ""
    private var isOver = false

    /// Whether its next line is there, or none will come.
    var isReady: Bool { isOver || !lines.isEmpty }

    mutating func take(_ text: String, _ width: Int) {
      for character in text {
        if character.isNewline {
          lines.append(open)
          open = ""
          continue
        }
        open.append(character == "\t" ? " " : character)
        guard Self.columns(open) > width else { continue }
        // The last word goes to the next line, where it is not the whole line.
        if let space = open.lastIndex(of: " "), space > open.startIndex, character != " " {
          lines.append(String(open[..<space]))
          open = String(open[open.index(after: space)...])
        } else {
          let last = open.removeLast()
          lines.append(open)
          open = last == " " ? "" : String(last)
        }
      }
    }

    mutating func end() {
      if !open.isEmpty { lines.append(open) }
      open = ""
      isOver = true
    }

    /// Places on a terminal: wide letters take two.
    static func columns(_ text: String) -> Int {
      text.unicodeScalars.reduce(0) { sum, scalar in
        let properties = scalar.properties
        if [.nonspacingMark, .enclosingMark, .format].contains(properties.generalCategory) { return sum }
        let isWide =
          (0x1100...0x115F).contains(scalar.value) || (0x2E80...0xA4CF).contains(scalar.value)
          || (0xAC00...0xD7A3).contains(scalar.value) || (0xF900...0xFAFF).contains(scalar.value)
          || (0xFE30...0xFE6F).contains(scalar.value) || (0xFF00...0xFF60).contains(scalar.value)
          || (0x1F300...0x1FAFF).contains(scalar.value) || (0x20000...0x3FFFD).contains(scalar.value)
        return sum + (isWide ? 2 : 1)
      }
    }
  }
}
