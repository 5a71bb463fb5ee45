import Foundation
import LadderInference

/// Puts the events of a request's texts into OpenAI's objects.
protocol AnswerTranslator {
  /// What a stream begins with.
  mutating func beginning() throws -> [Data]
  /// Takes an event; of a stream the objects that tell it.
  mutating func take(_ event: GenerationEngine.Event, choice: Int) throws -> [Data]
  /// What a stream ends with.
  func ending() throws -> [Data]
  /// All of it in one object.
  func whole() throws -> Data
  /// The texts that have ended.
  var generations: [Generation] { get }
}

/// What every object of an answer has.
struct AnswerHead: Sendable {
  let id: String
  let object: String
  let model: String
  let created = Int(Date().timeIntervalSince1970)

  init(_ prefix: String, object: String, model: String) {
    id = prefix + UUID().uuidString.replacingOccurrences(of: "-", with: "").lowercased()
    self.object = object
    self.model = model
  }

  func object<Choice: Encodable>(_ choices: [Choice], chunk: Bool, usage: Usage? = nil) throws -> Data {
    let kind = chunk && object == "chat.completion" ? "chat.completion.chunk" : object
    return try JSON.data(
      AnswerObject(id: id, object: kind, model: model, created: created, choices: choices, usage: usage))
  }
}
