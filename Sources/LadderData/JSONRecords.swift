import Foundation
import LadderCore

/// The JSON objects of a text: one a line, the elements of one array, or one after another over several lines each.
struct JSONRecords {
  let path: String
  let text: UnsafeRawBufferPointer

  /// - Parameter take: false ends the reading.
  func forEach(_ take: (DataFile.Record) throws -> Bool) throws {
    var scanner = Scanner(text: text)
    scanner.skipBlanks()
    switch scanner.byte {
    case UInt8(ascii: "["): try forEachElement(&scanner, take)
    case UInt8(ascii: "{"):
      var first = scanner
      // What is not closed anywhere is a broken line, and named as such.
      if first.skipObject(), first.line > scanner.line {
        try forEachObject(&scanner, take)
      } else {
        try forEachLine(take)
      }
    default: try forEachLine(take)
    }
  }

  private func forEachLine(_ take: (DataFile.Record) throws -> Bool) throws {
    var start = 0, line = 1
    while start < text.count {
      let rest = UnsafeRawBufferPointer(rebasing: text[start...])
      let length = rest.firstIndex(of: UInt8(ascii: "\n")) ?? rest.count
      let bytes = UnsafeRawBufferPointer(rebasing: rest[..<length])
      if !bytes.allSatisfy(Scanner.isBlank), try !take(record(bytes, line: line)) { return }
      start += length + 1
      line += 1
    }
  }

  private func forEachObject(_ scanner: inout Scanner, _ take: (DataFile.Record) throws -> Bool) throws {
    while scanner.byte != nil {
      if try !take(try object(&scanner, element: nil)) { return }
      scanner.skipBlanks()
    }
  }

  private func forEachElement(_ scanner: inout Scanner, _ take: (DataFile.Record) throws -> Bool) throws {
    var element = 0
    scanner.advance()
    scanner.skipBlanks()
    var isOpen = scanner.byte != UInt8(ascii: "]")
    while isOpen {
      element += 1
      if try !take(try object(&scanner, element: element)) { return }
      scanner.skipBlanks()
      switch scanner.byte {
      case UInt8(ascii: ","):
        scanner.advance()
        scanner.skipBlanks()
      case UInt8(ascii: "]"): isOpen = false
      default: throw bad(scanner.line, "there is neither a comma nor the array's end behind element \(element)")
      }
    }
    scanner.advance()
    scanner.skipBlanks()
    if scanner.byte != nil { throw bad(scanner.line, "there is more behind the array; write one array, or JSON Lines") }
  }

  private func object(_ scanner: inout Scanner, element: Int?) throws -> DataFile.Record {
    let start = scanner, what = element.map { "element \($0)" } ?? "what follows"
    guard start.byte == UInt8(ascii: "{") else {
      throw bad(start.line, "\(what) is not a JSON object; write {\"prompt\": …, \"completion\": …}")
    }
    guard scanner.skipObject() else {
      throw bad(start.line, "the object that begins here is not closed; write whole objects, each text on one line")
    }
    let bytes = UnsafeRawBufferPointer(rebasing: text[start.position..<scanner.position])
    return try record(bytes, line: start.line, element: element)
  }

  private func record(_ bytes: UnsafeRawBufferPointer, line: Int, element: Int? = nil) throws -> DataFile.Record {
    try DataFile.requireUTF8(bytes, path: path, line: line)
    return DataFile.Record(json: Data(bytes), path: path, line: line, element: element)
  }

  private func bad(_ line: Int, _ message: String) -> LadderError { LadderError(.data, "\(path):\(line): \(message)") }

  /// Finds where JSON objects end.
  private struct Scanner {
    let text: UnsafeRawBufferPointer
    private(set) var position = 0
    /// From 1.
    private(set) var line = 1

    init(text: UnsafeRawBufferPointer) { self.text = text }

    var byte: UInt8? { position < text.count ? text[position] : nil }

    static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0D || byte == 0x0A }

    mutating func advance() {
      if byte == UInt8(ascii: "\n") { line += 1 }
      position += 1
    }

    mutating func skipBlanks() {
      while let byte, Self.isBlank(byte) { advance() }
    }

    /// Passes over the object that begins here; false where it does not end.
    mutating func skipObject() -> Bool {
      var depth = 0, isText = false
      while let byte {
        advance()
        switch byte {
        case UInt8(ascii: "\\") where isText: advance()
        case UInt8(ascii: "\""): isText.toggle()
        case UInt8(ascii: "\n") where isText: return false
        case UInt8(ascii: "{") where !isText, UInt8(ascii: "[") where !isText: depth += 1
        case UInt8(ascii: "}") where !isText, UInt8(ascii: "]") where !isText:
          depth -= 1
          if depth == 0 { return true }
        default: break
        }
      }
      return false
    }
  }
}
