/// Room for llama.cpp's byte-pair tokenizers, which split text by the standard library's regular expressions: those call
/// themselves once for each character of a match, so that a long run of letters or spaces overflows a usual stack.
enum TokenizerStack {
  /// What a character of a match takes at most, several times what was measured.
  private static let bytesPerCharacter = 1536
  /// What any thread has to spare.
  private static let small = 256
  /// Characters of a run that are taken as one; a longer run is cut.
  static let longest = 1 << 18

  /// Calls `body` where a match of that many characters has room.
  static func with<Result>(matchOf characters: Int, _ body: @escaping () -> Result) -> Result {
    characters > small ? DeepStack.with(bytes: characters * bytesPerCharacter, body) : body()
  }

  /// Bytes that a match may reach over: a few runs of one kind after another, for patterns take a space before letters
  /// and lines behind marks.
  static func match(in text: UnsafeRawBufferPointer) -> Int {
    var runs = (0, 0, 0), most = 0, kind = -1
    for byte in text {
      let own = Self.kind(byte)
      if own != kind {
        runs = (runs.1, runs.2, 0)
        kind = own
      }
      runs.2 += 1
      most = max(most, runs.0 + runs.1 + runs.2)
    }
    return most
  }

  /// Where a text is cut so that no run of one kind is longer than `longest`: within such runs alone.
  static func cuts(_ text: UnsafeRawBufferPointer) -> [Range<Int>] {
    guard text.count > longest else { return [0..<text.count] }
    var result: [Range<Int>] = [], start = 0, run = 0, kind = -1
    for (index, byte) in text.enumerated() {
      let own = Self.kind(byte)
      run = own == kind ? run + 1 : 1
      kind = own
      // Between characters.
      if run >= longest, byte & 0xC0 != 0x80 {
        result.append(start..<index)
        start = index
        run = 1
      }
    }
    result.append(start..<text.count)
    return result
  }

  /// Letters and whatever is no ASCII, digits, whitespace, marks.
  private static func kind(_ byte: UInt8) -> Int {
    switch byte {
    case 0x09...0x0D, 0x20: 0
    case 0x30...0x39: 1
    case 0x41...0x5A, 0x61...0x7A, 0x80...: 2
    default: 3
    }
  }
}
