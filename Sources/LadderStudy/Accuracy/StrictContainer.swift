import LadderCore

private struct AnyKey: CodingKey {
  var stringValue: String
  var intValue: Int? { nil }
  init?(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}

extension Decoder {
  /// A keyed container all of whose keys are known: a misspelled one is an error, not ignored.
  func strictContainer<K: CodingKey & CaseIterable>(_ keys: K.Type) throws -> KeyedDecodingContainer<K> {
    let known = K.allCases.map(\.stringValue)
    for key in try container(keyedBy: AnyKey.self).allKeys where !known.contains(key.stringValue) {
      throw LadderError(
        .data, "the study's file: no key \(key.stringValue) here; take \(known.joined(separator: ", "))")
    }
    return try container(keyedBy: keys)
  }
}
