import Foundation
import LadderCore

/// A value of JSON as it was written: what is rendered from it later keeps the order of its keys and the form of its
/// numbers, which Foundation's dictionaries lose.
///
/// The text has been read by `JSONSerialization` before; this only finds where things begin and end.
package struct JSONText {
  package let bytes: ArraySlice<UInt8>

  /// - Throws: `data` where the text is not JSON, or holds what no text can: half of a surrogate pair.
  package init(_ data: Data) throws(LadderError) {
    do {
      _ = try JSONSerialization.jsonObject(with: data, options: .fragmentsAllowed)
    } catch {
      throw LadderError(.data, "this line is not valid JSON; write one object a line")
    }
    var start = 0
    if data.starts(with: [0xEF, 0xBB, 0xBF]) { start = 3 }
    self.init(trimming: Array(data)[start...])
  }

  init(trimming bytes: ArraySlice<UInt8>) {
    let start = bytes.firstIndex { !Self.isSpace($0) } ?? bytes.endIndex
    let end = bytes.lastIndex { !Self.isSpace($0) }.map { $0 + 1 } ?? start
    self.bytes = bytes[start..<max(start, end)]
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D }

  /// How deep lists and objects lie in one another, and the bytes of the longest string.
  package var extent: (depth: Int, longestString: Int) {
    var depth = 0, deepest = 0, longest = 0, index = bytes.startIndex
    while index < bytes.endIndex {
      if bytes[index] == UInt8(ascii: "\"") {
        // Not every text is JSON: one that is not closed goes on to the end.
        guard let end = Self.end(ofStringAt: index, in: bytes) else {
          return (deepest, max(longest, bytes.endIndex - index))
        }
        longest = max(longest, end - index - 2)
        index = end
        continue
      }
      if bytes[index] == UInt8(ascii: "{") || bytes[index] == UInt8(ascii: "[") { depth += 1 }
      if bytes[index] == UInt8(ascii: "}") || bytes[index] == UInt8(ascii: "]") { depth -= 1 }
      deepest = max(deepest, depth)
      index += 1
    }
    return (deepest, longest)
  }

  /// Without spaces and line ends between its parts: one line.
  package var compact: [UInt8] {
    var result: [UInt8] = [], index = bytes.startIndex
    result.reserveCapacity(bytes.count)
    while index < bytes.endIndex {
      let end = Self.end(ofStringAt: index, in: bytes) ?? index + 1
      if end > index + 1 || !Self.isSpace(bytes[index]) { result.append(contentsOf: bytes[index..<end]) }
      index = end
    }
    return result
  }

  /// As it stands in the file.
  package var source: String { String(decoding: bytes, as: UTF8.self) }

  package var isNull: Bool { bytes.first == UInt8(ascii: "n") }
  /// Whether it is null, or a list or an object without anything in it.
  var holdsNothing: Bool { isNull || (isList && elements.isEmpty) || (isObject && members.isEmpty) }
  package var isString: Bool { bytes.first == UInt8(ascii: "\"") }
  package var isObject: Bool { bytes.first == UInt8(ascii: "{") }
  package var isList: Bool { bytes.first == UInt8(ascii: "[") }
  package var isNumber: Bool { bytes.first.map { $0 == UInt8(ascii: "-") || (0x30...0x39).contains($0) } ?? false }

  /// The text of a string; nil for another kind of value.
  package var string: String? {
    guard isString else { return nil }
    if !bytes.contains(UInt8(ascii: "\\")) { return String(decoding: bytes.dropFirst().dropLast(), as: UTF8.self) }
    return try? JSONDecoder().decode(String.self, from: Data(bytes))
  }

  /// An object's members in their order, the last of those of one name; none for another kind of value.
  package var members: [(name: String, value: JSONText)] {
    guard isObject else { return [] }
    var result: [(name: String, value: JSONText)] = [], places: [String: Int] = [:]
    for part in parts() {
      guard let colon = Self.end(ofStringAt: part.startIndex, in: part),
        let name = JSONText(trimming: part[part.startIndex..<colon]).string,
        let separator = part[colon...].firstIndex(of: UInt8(ascii: ":"))
      else { continue }
      let value = JSONText(trimming: part[(separator + 1)...])
      if let place = places[name] {
        result[place].value = value
      } else {
        places[name] = result.count
        result.append((name, value))
      }
    }
    return result
  }

  /// An object's members by their names; none for another kind of value.
  package var object: [String: JSONText] { Dictionary(uniqueKeysWithValues: members.map { ($0.name, $0.value) }) }

  /// A list's elements; none for another kind of value.
  package var elements: [JSONText] { isList ? parts().map { JSONText(trimming: $0) } : [] }

  /// What stands between the commas of an object or a list.
  private func parts() -> [ArraySlice<UInt8>] {
    var result: [ArraySlice<UInt8>] = []
    var depth = 0, start = bytes.startIndex + 1, index = bytes.startIndex
    while index < bytes.endIndex {
      switch bytes[index] {
      case UInt8(ascii: "\""): index = (Self.end(ofStringAt: index, in: bytes) ?? bytes.endIndex) - 1
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: ","):
        if depth == 1 {
          result.append(JSONText(trimming: bytes[start..<index]).bytes)
          start = index + 1
        }
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        depth -= 1
        if depth == 0 {
          let last = JSONText(trimming: bytes[start..<index]).bytes
          if !last.isEmpty { result.append(last) }
        }
      default: break
      }
      index += 1
    }
    return result
  }

  /// Behind the closing mark of the string that begins there.
  private static func end(ofStringAt start: Int, in bytes: ArraySlice<UInt8>) -> Int? {
    guard start < bytes.endIndex, bytes[start] == UInt8(ascii: "\"") else { return nil }
    var index = start + 1
    while index < bytes.endIndex {
      if bytes[index] == UInt8(ascii: "\\") {
        index += 2
      } else if bytes[index] == UInt8(ascii: "\"") {
        return index + 1
      } else {
        index += 1
      }
    }
    return nil
  }
}
