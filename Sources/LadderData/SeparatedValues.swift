import Foundation
import LadderCore
import SwiftCSV

/// CSV or TSV (RFC 4180): the first row names the columns, which are the samples' keys. An empty cell is a key that is
/// not there; what a key takes as a list stands in its cell as JSON.
struct SeparatedValues {
  let path: String
  let text: UnsafeRawBufferPointer

  private static let listKeys: Set = ["choices", "messages", "chosen", "rejected", "tools"]
  /// Stands before what SwiftCSV would pass over, or join with the separator before it: a blank or a letter beyond
  /// ASCII at a cell's start. It is U+FDD0, no character of any text.
  private static let mark: [UInt8] = [0xEF, 0xB7, 0x90]

  /// - Parameter take: false ends the reading.
  func forEach(_ take: (DataFile.Record) throws -> Bool) throws {
    try DataFile.requireUTF8(text, path: path, line: 1)
    // A quoted cell of the heading does not matter to the guess.
    let heading = String(decoding: text.prefix(while: { $0 != UInt8(ascii: "\n") }), as: UTF8.self)
    let separator = path.lowercased().hasSuffix(".tsv") ? CSVDelimiter.tab : CSVDelimiter.guessed(string: heading)
    let (marked, lines) = try prepared(separator.rawValue.asciiValue ?? UInt8(ascii: ","))
    var row = 0, goesOn = true, failure: (any Error)?
    do {
      let csv = try EnumeratedCSV(string: marked, delimiter: separator, loadColumns: false, rowLimit: 0)
      let header = csv.header.map(Self.unmarked)
      try require(
        !header.allSatisfy(\.isEmpty), line: 1, "no heading; write the names of the columns into the first line")
      let names = header.filter { !$0.isEmpty }
      try require(Set(names).count == names.count, line: 1, "two columns have one name")
      try withoutActuallyEscaping(take) { take in
        try csv.enumerateAsArray(startAt: 1, rowLimit: nil) { cells in
          row += 1
          guard goesOn, failure == nil, !Self.isBlank(cells) else { return }
          do {
            try require(
              cells.count == header.count, line: lines[row],
              "\(cells.count) cells under \(header.count) columns; put cells that hold the separator into quotes")
            let json = try object(header, cells.map(Self.unmarked), line: lines[row])
            goesOn = try take(DataFile.Record(json: json, path: path, line: lines[row], element: nil))
          } catch { failure = error }
        }
      }
    } catch is CSVParseError {
      let line = lines[min(row + 1, lines.count - 1)]
      throw failure
        ?? LadderError(.data, "\(path):\(line): a quote stands inside a cell; put the cell into quotes and double it")
    }
    if let failure { throw failure }
  }

  private func require(_ condition: Bool, line: Int, _ message: String) throws {
    if !condition { throw LadderError(.data, "\(path):\(line): \(message)") }
  }

  private func object(_ header: [String], _ cells: [String], line: Int) throws -> Data {
    var object: [String: Any] = [:]
    for (name, cell) in zip(header, cells) where !name.isEmpty && !cell.isEmpty {
      object[name] = cell
      if Self.listKeys.contains(name), cell.hasPrefix("[") {
        guard let list = try? JSONSerialization.jsonObject(with: Data(cell.utf8)) as? [Any] else {
          throw LadderError(.data, "\(path):\(line): the list in column \(name) is not valid JSON")
        }
        object[name] = list
      }
    }
    return try JSONSerialization.data(withJSONObject: object)
  }

  /// The text with its marks, ended by a line break, and the line on which each row begins.
  private func prepared(_ separator: UInt8) throws -> (text: String, lines: [Int]) {
    let quote = UInt8(ascii: "\""), feed = UInt8(ascii: "\n"), carriage = UInt8(ascii: "\r")
    var result: [UInt8] = [], lines = [1], line = 1, isQuoted = false, begins = true
    result.reserveCapacity(text.count + text.count / 16)
    for (index, byte) in text.enumerated() {
      let next = index + 1 < text.count ? text[index + 1] : feed
      if begins, !isQuoted, byte != separator, byte == 0x20 || byte == 0x09 || byte >= 0x80 {
        // Blanks before a quote are no part of the cell.
        let first = text[index...].first { $0 != 0x20 && $0 != 0x09 }
        if first != quote { result += Self.mark }
      }
      begins = false
      result.append(byte)
      if byte == quote {
        isQuoted.toggle()
        if isQuoted, next >= 0x80 { result += Self.mark }
      } else if byte == feed || (byte == carriage && next != feed) {
        line += 1
        if !isQuoted { lines.append(line) }
        begins = !isQuoted
      } else if byte == separator {
        begins = !isQuoted
      }
    }
    try require(!isQuoted, line: lines[lines.count - 1], "a quote that is opened in this row is not closed")
    if result.last != feed, result.last != carriage { result.append(feed) }
    return (String(decoding: result, as: UTF8.self), lines)
  }

  private static func isBlank(_ cells: [String]) -> Bool {
    cells.count == 1 && unmarked(cells[0]).allSatisfy(\.isWhitespace)
  }

  private static func unmarked(_ cell: String) -> String {
    cell.utf8.starts(with: mark) ? String(Substring(cell.utf8.dropFirst(mark.count))) : cell
  }
}
