import Foundation
import LadderCore

/// Fills `{field}` places from the fields of a JSON line: samples out of lines of any form.
public struct SampleTemplate: Codable, Sendable, Equatable {
  public var prompt: String
  public var completion: String
  public var choices: [String]?
  public var answer: String?

  enum CodingKeys: String, CodingKey, CaseIterable { case prompt, completion, choices, answer }

  public init(prompt: String, completion: String, choices: [String]? = nil, answer: String? = nil) {
    self.prompt = prompt
    self.completion = completion
    self.choices = choices
    self.answer = answer
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.strictContainer(CodingKeys.self)
    self.init(
      prompt: try values.decode(String.self, forKey: .prompt),
      completion: try values.decode(String.self, forKey: .completion),
      choices: try values.decodeIfPresent([String].self, forKey: .choices),
      answer: try values.decodeIfPresent(String.self, forKey: .answer))
  }

  /// One line of a JSONL file as a line that `ladder train` reads.
  func filled(_ line: [String: Any], place: String) throws -> [String: Any] {
    func fill(_ text: String) throws -> String {
      var result = "", rest = text[...]
      while let open = rest.firstIndex(of: "{"), let close = rest[open...].firstIndex(of: "}") {
        let field = String(rest[rest.index(after: open)..<close])
        // A null is an absent field.
        guard let value = line[field], !(value is NSNull) else {
          throw LadderError(.data, "\(place): no field \(field.shown), which the task's template names")
        }
        guard let text = (value as? String) ?? (value as? NSNumber)?.stringValue else {
          throw LadderError(.data, "\(place): the field \(field.shown) is neither a text nor a number")
        }
        result += rest[..<open] + text
        rest = rest[rest.index(after: close)...]
      }
      return result + rest
    }
    var sample: [String: Any] = ["prompt": try fill(prompt), "completion": try fill(completion)]
    if let choices { sample["choices"] = try choices.map(fill) }
    if let answer { sample["answer"] = try fill(answer) }
    return sample
  }
}
