import Foundation

/// The final answer in a text: what follows the last `####`, else the last number, else the last line.
///
/// Where the answer that is wanted is a number, with or without a unit, the text's last number is compared with it, as
/// a number; else texts are compared without regard to case, to spaces, to the punctuation around them, and to the form
/// of a character in Unicode (NFKC).
package enum FinalAnswer {
  package static func matches(_ text: String, _ answer: String) -> Bool {
    let wanted = marked(answer) ?? answer
    if let number = WrittenNumber(quantity: wanted) {
      return WrittenNumber.last(in: marked(text) ?? text)?.equals(number) ?? false
    }
    let lines = wanted.split(whereSeparator: \.isNewline).filter { !$0.allSatisfy(\.isWhitespace) }.count
    return normalised(marked(text) ?? lastLines(text, max(1, lines))) == normalised(wanted)
  }

  private static func marked(_ text: String) -> String? {
    text.range(of: "####", options: .backwards).map { String(text[$0.upperBound...].prefix { !$0.isNewline }) }
  }

  private static func lastLines(_ text: String, _ count: Int) -> String {
    text.split(whereSeparator: \.isNewline).filter { !$0.allSatisfy(\.isWhitespace) }.suffix(count)
      .joined(separator: " ")
  }

  private static let punctuation = Set(".,;:!?'\"`*_()[]{}<>‘’“”„«»‹›。、…")

  private static func normalised(_ text: String) -> String {
    let plain = text.precomposedStringWithCompatibilityMapping.lowercased().split(whereSeparator: \.isWhitespace)
      .joined(separator: " ")
    let isOuter: (Character) -> Bool = { $0 == " " || punctuation.contains($0) }
    let inner = plain.drop(while: isOuter)
    let count = inner.reversed().drop(while: isOuter).count
    // An answer of nothing but punctuation is that punctuation.
    return count == 0 ? plain : String(inner.prefix(count))
  }
}
