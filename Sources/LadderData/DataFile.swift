import Foundation
import LadderCore

/// A file of samples, in any form that is read: JSON Lines, a JSON array of objects, objects that each take several
/// lines, or CSV and TSV by the name's end. The text is UTF-8.
package struct DataFile {
  /// One JSON object of the file.
  package struct Record {
    package let json: Data
    let path: String
    let line: Int
    /// From 1, in an array.
    let element: Int?

    /// `file:line`, and of an array which element.
    package var place: String { "\(path):\(line)" + (element.map { ": element \($0)" } ?? "") }
  }

  package let path: String
  private let data: Data

  /// - Throws: `missing`; `data` for a folder and for what is no text in UTF-8, with what to do.
  package init(_ path: String) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw LadderError(.missing, "no data file at \(path)")
    }
    if isFolder.boolValue { throw LadderError(.data, "\(path) is a folder; pass a JSONL file") }
    self.path = path
    data = try DurableFile.read(path)
    if let problem = Self.problem(data.prefix(8), path) { throw LadderError(.data, "\(path):1: \(problem)") }
  }

  /// Why a file that begins like this is not read, and what to write instead.
  private static func problem(_ beginning: Data, _ path: String) -> String? {
    let begins: ([UInt8]) -> Bool = { beginning.starts(with: $0) }
    let packers: [([UInt8], String, String)] = [
      ([0x1F, 0x8B], "gzip", "gunzip"), ([0x28, 0xB5, 0x2F, 0xFD], "zstd", "unzstd"),
      ([0xFD, 0x37, 0x7A, 0x58, 0x5A], "xz", "unxz"), (Array("BZh".utf8), "bzip2", "bunzip2"),
      ([0x50, 0x4B, 0x03, 0x04], "zip", "unzip"),
    ]
    if let (_, name, tool) = packers.first(where: { begins($0.0) }) {
      return "this file is packed with \(name); write it out first with \(tool) \(path)"
    }
    for (mark, name) in [("PAR1", "Parquet"), ("ARROW1", "Arrow"), ("SQLite", "SQLite"), ("GGUF", "GGUF")]
    where begins(Array(mark.utf8)) {
      return "this is a \(name) file; write its rows as JSON Lines, one object a line"
    }
    if begins([0xFF, 0xFE]) || begins([0xFE, 0xFF]) || beginning.prefix(2).contains(0) {
      return "this file is not UTF-8 but UTF-16 or UTF-32, or no text; write it in UTF-8 (iconv -f UTF-16 -t UTF-8)"
    }
    return nil
  }

  /// Calls `body` with each record, in the file's order.
  /// - Parameter limit: the most records.
  /// - Throws: `data` with file and line for what is no record; what `body` throws.
  package func forEach(limit: Int = .max, _ body: (Record) throws -> Void) throws {
    var taken = 0
    func take(_ record: Record) throws -> Bool {
      guard taken < limit else { return false }
      taken += 1
      try body(record)
      return taken < limit
    }
    try data.withUnsafeBytes { all in
      let text = UnsafeRawBufferPointer(rebasing: all[(all.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0)...])
      switch (path as NSString).pathExtension.lowercased() {
      case "csv", "tsv": try SeparatedValues(path: path, text: text).forEach(take)
      default: try JSONRecords(path: path, text: text).forEach(take)
      }
    }
  }

  /// - Parameter line: where `bytes` begin in the file.
  static func requireUTF8(_ bytes: UnsafeRawBufferPointer, path: String, line: Int) throws {
    guard let bad = UTF8Bytes.firstInvalid(bytes) else { return }
    let before = bytes[..<bad], breaks = before.count { $0 == UInt8(ascii: "\n") }
    let column = before.count - (before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0) + 1
    throw LadderError(
      .data,
      "\(path):\(line + breaks): byte \(column) of this line, 0x\(String(bytes[bad], radix: 16, uppercase: true)), is "
        + "not UTF-8; write the file in UTF-8 (from Latin-1: iconv -f LATIN1 -t UTF-8)")
  }
}
