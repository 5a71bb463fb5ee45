import Foundation
import LadderCore

/// CSV or TSV: the first row names the columns, which are the samples' keys. An empty cell is a key that is not there;
/// what a key takes as a list stands in its cell as JSON.
struct SeparatedValues {
  let path: String
  let text: UnsafeRawBufferPointer

  /// Lists always, and texts or lists of messages.
  private static let listKeys: Set = ["choices", "messages", "conversations", "tools"]
  private static let messageKeys: Set = ["prompt", "completion", "chosen", "rejected"]

  /// What begins as a list of messages, as other programs write one.
  private static var brokenMessages: Regex<(Substring, Substring)> { #/\[\{\s*['"](role|from|content|value)['"]/# }

  /// - Parameter take: false ends the reading.
  func forEach(_ take: (DataFile.Record) throws -> Bool) throws {
    try DataFile.requireUTF8(text, path: path, line: 1)
    let heading = text.prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
    var rows = CSVRows(
      text, separator: path.lowercased().hasSuffix(".tsv") ? UInt8(ascii: "\t") : CSVRows.separator(ofHeading: heading))
    let header = try row(&rows)?.cells ?? []
    try require(
      !header.allSatisfy(\.isEmpty), line: 1, "no heading; write the names of the columns into the first line")
    let names = header.filter { !$0.isEmpty }
    try require(Set(names).count == names.count, line: 1, "two columns have one name")
    while let (cells, line) = try row(&rows) {
      if cells.count == 1, cells[0].allSatisfy(\.isWhitespace) { continue }
      try require(
        cells.count == header.count, line: line,
        "\(cells.count) cells under \(header.count) columns; put cells that hold the separator into quotes")
      let record = DataFile.Record(json: try object(header, cells, line: line), path: path, line: line, element: nil)
      guard try take(record) else { return }
    }
  }

  private func row(_ rows: inout CSVRows) throws -> (cells: [String], line: Int)? {
    let line = rows.nextLine
    do {
      return try rows.next().map { ($0, line) }
    } catch {
      let message =
        switch error {
        case .open: "a quote that is opened in this row is not closed"
        case .quoteInside: "a quote stands inside a cell; put the cell into quotes and double it"
        }
      throw LadderError(.data, "\(path):\(line): \(message)")
    }
  }

  private func require(_ condition: Bool, line: Int, _ message: String) throws {
    if !condition { throw LadderError(.data, "\(path):\(line): \(message)") }
  }

  /// Lists keep the order of their keys: what is rendered from them is the same each time.
  private func object(_ header: [String], _ cells: [String], line: Int) throws -> Data {
    var object = Data("{".utf8)
    for (name, cell) in zip(header, cells) where !name.isEmpty && !cell.isEmpty {
      if object.count > 1 { object += Data(", ".utf8) }
      object += try Self.json(name) + Data(": ".utf8)
      do {
        object += try Self.isList(cell, name) ? Data(cell.utf8) : Self.json(cell)
      } catch is BrokenList {
        throw LadderError(.data, "\(path):\(line): the list in column \(name) is not valid JSON")
      }
    }
    return object + Data("}".utf8)
  }

  private struct BrokenList: Error {}

  /// Whether a cell stands for a list.
  private static func isList(_ cell: String, _ name: String) throws -> Bool {
    let always = listKeys.contains(name)
    guard cell.hasPrefix("["), always || messageKeys.contains(name) else { return false }
    guard let list = (try? JSONSerialization.jsonObject(with: Data(cell.utf8))) as? [Any] else {
      if try always || brokenMessages.prefixMatch(in: cell) != nil { throw BrokenList() }
      return false
    }
    let first = list.first as? [String: Any]
    return always || first?["role"] != nil || first?["from"] != nil
  }

  private static func json(_ text: String) throws -> Data {
    try JSONSerialization.data(withJSONObject: text, options: .fragmentsAllowed)
  }
}
