/// Finds names in bytes, the longest that begins at a place: some vocabularies have thousands of control tokens, most
/// of which begin alike.
struct NameIndex: Sendable {
  struct Name: Sendable {
    /// Among those that were given.
    let place: Int
    /// Bytes, and those of its first character.
    let length: Int
    let firstCharacter: Int
  }

  /// By their first byte, and there by their length, longest first.
  private let names: [UInt8: [(length: Int, names: [[UInt8]: Name])]]

  /// - Parameter all: UTF-8. Of several alike the first counts; empty ones are never found.
  init(_ all: [[UInt8]]) {
    var groups: [UInt8: [Int: [[UInt8]: Name]]] = [:]
    for (place, name) in all.enumerated() {
      guard let first = name.first, groups[first]?[name.count]?[name] == nil else { continue }
      let character = String(decoding: name, as: UTF8.self).unicodeScalars.first.map { UTF8.width($0) } ?? 1
      groups[first, default: [:]][name.count, default: [:]][name] = Name(
        place: place, length: name.count, firstCharacter: min(character, name.count))
    }
    names = groups.mapValues { $0.sorted { $0.key > $1.key }.map { ($0.key, $0.value) } }
  }

  func longest(in bytes: [UInt8], at index: Int) -> Name? {
    guard let own = names[bytes[index]] else { return nil }
    for (length, names) in own where index + length <= bytes.count {
      if let name = names[Array(bytes[index..<(index + length)])] { return name }
    }
    return nil
  }
}
