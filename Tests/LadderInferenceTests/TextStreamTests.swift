import Testing

@testable import LadderInference

@Suite struct TextStreamTests {
  private func pieces(_ bytes: [[UInt8]], _ stops: [String] = []) -> (pieces: [String], stop: String?) {
    var stream = TextStream(stops: stops)
    let pieces = bytes.map { stream.take($0) } + [stream.rest()]
    return (pieces, stream.stop)
  }

  @Test func charactersComeWhole() {
    let letter = Array("€".utf8), face = Array("😀".utf8)
    #expect(pieces([[0x61], [letter[0]], [letter[1]], [letter[2], 0x62]]).pieces == ["a", "", "", "€b", ""])
    #expect(pieces(face.map { [$0] }).pieces == ["", "", "", "😀", ""])
  }

  @Test func whatIsNoCharacterComesAtOnce() {
    #expect(pieces([[0x61, 0xFF], [0x62]]).pieces == ["a\u{FFFD}", "b", ""])
    #expect(pieces([[0xE2, 0x82], [0x62]]).pieces == ["", "\u{FFFD}b", ""])
    #expect(pieces([[0xF0, 0x9F]]).pieces == ["", "\u{FFFD}"], "what is cut short at the end is flushed")
    #expect(pieces([[0x80], [0xC0], [0xED, 0xA0]]).pieces == ["\u{FFFD}", "\u{FFFD}", "\u{FFFD}\u{FFFD}", ""])
  }

  /// However bytes are cut into tokens, the pieces together are what all bytes together are.
  @Test func piecesAreTheWhole() {
    let bytes: [UInt8] = Array("añ€😀 ".utf8) + [0xFF, 0xE2, 0x82] + Array("z€".utf8) + [0xF0, 0x9F, 0x98]
    for first in 0...bytes.count {
      for second in first...bytes.count {
        let cut = [Array(bytes[..<first]), Array(bytes[first..<second]), Array(bytes[second...])]
        let result = pieces(cut, ["no such"]).pieces.joined()
        #expect(result == String(decoding: bytes, as: UTF8.self))
      }
    }
  }

  @Test func aStopTextEndsAcrossTokens() {
    func text(_ parts: [String], _ stops: [String]) -> (pieces: [String], stop: String?) {
      pieces(parts.map { Array($0.utf8) }, stops)
    }
    let ended = text(["one\n", "\nQ", ": two", "more"], ["\n\nQ:"])
    #expect(ended.pieces == ["one", "", "", "", ""] && ended.stop == "\n\nQ:")
    let none = text(["one\n", "\nA"], ["\n\nQ:"])
    #expect(none.pieces == ["one", "\n\nA", ""] && none.stop == nil)
    #expect(text(["one\n"], ["\n\nQ:"]).pieces == ["one", "\n"], "what was held back comes at the end")
    #expect(text(["aab"], ["aab", "ab"]).pieces == ["", ""])
    #expect(text(["xay", "b"], ["b", "y"]).stop == "y")
    #expect(text(["aa", "aab"], ["aab"]).pieces == ["", "aa", ""])
    #expect(text(["5€", "x"], ["€y"]).pieces == ["5", "€x", ""])
  }
}
