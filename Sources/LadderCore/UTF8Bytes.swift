/// UTF-8 as bytes: what of them is whole characters.
package enum UTF8Bytes {
  /// The index of the first byte that begins no whole character; nil where all of them do.
  package static func firstInvalid(_ bytes: UnsafeRawBufferPointer) -> Int? {
    var index = 0
    while index < bytes.count {
      if bytes[index] < 0x80 {
        index += 1
        continue
      }
      let (length, whole) = character(bytes, at: index)
      if length != whole { return index }
      index += length
    }
    return nil
  }

  /// Bytes at the end that begin a character and do not finish it.
  package static func unfinished(_ bytes: UnsafeRawBufferPointer) -> Int {
    for count in stride(from: 1, through: min(3, bytes.count), by: 1) {
      let start = bytes.count - count
      if bytes[start] & 0xC0 == 0x80 { continue }
      let (length, whole) = character(bytes, at: start)
      return length == count && whole > count ? count : 0
    }
    return 0
  }

  /// How many bytes from `start` can be one character's, and how many that has; 0 where they can be none's (Unicode,
  /// table 3-7).
  private static func character(_ bytes: UnsafeRawBufferPointer, at start: Int) -> (length: Int, whole: Int) {
    let lead = bytes[start]
    let whole: Int
    switch lead {
    case 0..<0x80: return (1, 1)
    case 0xC2...0xDF: whole = 2
    case 0xE0...0xEF: whole = 3
    case 0xF0...0xF4: whole = 4
    default: return (1, 0)
    }
    for offset in 1..<whole {
      guard start + offset < bytes.count else { return (offset, whole) }
      var range: ClosedRange<UInt8> = 0x80...0xBF
      if offset == 1 {
        switch lead {
        case 0xE0: range = 0xA0...0xBF
        case 0xED: range = 0x80...0x9F
        case 0xF0: range = 0x90...0xBF
        case 0xF4: range = 0x80...0x8F
        default: break
        }
      }
      if !range.contains(bytes[start + offset]) { return (offset, 0) }
    }
    return (whole, whole)
  }
}
