import Foundation
import LadderCore

/// One line of a JSONL file.
public struct Sample: Sendable, Equatable {
  /// What a sample holds, by the format it was written in.
  public indirect enum Form: Sendable, Equatable {
    /// Loss on the completion.
    case completion(prompt: String, completion: String)
    /// Loss on the assistant's turns.
    case conversation(Conversation)
    /// Loss on the assistant's turns of what follows a conversation.
    case reply(to: Conversation, with: [ChatMessage])
    /// Loss everywhere.
    case text(String)
    /// Two answers to one prompt, each a completion or a reply.
    case preference(chosen: Form, rejected: Form)
  }

  /// The texts to learn from.
  public var form: Form
  /// Completions to choose among; the sample's own is one of them.
  public var choices: [String]
  /// Where it was read, as "file:line", for errors.
  package var place: String?
  /// Keys that it was written with and that nothing reads.
  package var unread: [String] = []
  /// What the generated text's final number or text is compared with.
  public var answer: String?

  /// - Parameters:
  ///   - choices: the answers that `choice` judges between.
  ///   - answer: what `exact` compares a generated text with.
  public init(_ form: Form, choices: [String] = [], answer: String? = nil) {
    self.form = form
    self.choices = choices
    self.answer = answer
  }

  /// A prompt and the completion to learn.
  public init(prompt: String, completion: String, choices: [String] = [], answer: String? = nil) {
    self.init(.completion(prompt: prompt, completion: completion), choices: choices, answer: answer)
  }

  /// Reads a file of JSON Lines (blank lines are passed over), a JSON array, or CSV or TSV with a heading.
  /// - Throws: `missing`; `data` with file and line for the first record that is no sample.
  public static func load(_ path: String) throws(LadderError) -> [Sample] {
    try LadderError.unify { try read(path) }
  }

  private static func read(_ path: String) throws -> [Sample] {
    var samples: [Sample] = []
    try DataFile(path).forEach { record in
      do throws(LadderError) {
        var sample = try Sample(json: record.json)
        sample.place = record.place
        samples.append(sample)
      } catch {
        throw LadderError(.data, "\(record.place): \(error.message)")
      }
    }
    if samples.isEmpty { throw LadderError(.data, "\(path) holds no samples; write one JSON object a line") }
    return samples
  }

  /// Reads one JSON object.
  public init(json: Data) throws(LadderError) {
    self = try LadderError.unify { try SampleRecord(json).sample() }
  }

  /// Whether two hold the same, wherever they were read.
  public static func == (one: Sample, other: Sample) -> Bool {
    one.form == other.form && one.choices == other.choices && one.answer == other.answer
  }

  /// Does something with the sample; errors say where it was read.
  package func placing<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as LadderError {
      throw place.map { LadderError(error.kind, "\($0): \(error.message)") } ?? error
    }
  }
}
