import Foundation

/// What an evaluation measures.
public enum Metric: String, Sendable, Codable, CaseIterable {
  /// Preference for pairs, choice where the samples have choices, else exact where they have answers, else loss.
  case auto
  /// Mean nats per loss row.
  case loss
  /// The share of samples whose own completion is the likeliest of its choices.
  case choice
  /// The share of pairs whose chosen answer is likelier than the rejected one.
  case preference
  /// The share of samples whose generated text ends in the answer.
  case exact
}

/// The final answer in a text: what follows the last `####`, else the last number, else the last line.
package enum FinalAnswer {
  package static func matches(_ text: String, _ answer: String) -> Bool {
    let wanted = normalised(answer)
    return Double(wanted) != nil
      ? number(in: text) == number(in: wanted) : normalised(marked(text) ?? lastLine(text)) == wanted
  }

  static func number(in text: String) -> Double? {
    let source = marked(text) ?? text
    let pattern = /-?\d[\d,]*(?:\.\d+)?/
    return source.matches(of: pattern).last.flatMap { Double($0.output.replacingOccurrences(of: ",", with: "")) }
  }

  private static func marked(_ text: String) -> String? {
    text.range(of: "####", options: .backwards).map { String(text[$0.upperBound...].prefix { !$0.isNewline }) }
  }

  private static func lastLine(_ text: String) -> String {
    text.split(whereSeparator: \.isNewline).last { !$0.allSatisfy(\.isWhitespace) }.map(String.init) ?? ""
  }

  private static func normalised(_ text: String) -> String {
    text.trimmingCharacters(in: .whitespacesAndNewlines).lowercased()
  }
}
