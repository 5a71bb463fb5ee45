import LadderBackbone
import LadderData
import LadderMethods

/// What an engine answers with under a name: the model alone, or a run.
///
/// Its engine alone looks inside.
package final class LoadedModel: @unchecked Sendable {
  let adapted: AdaptedModel
  let language: ModelVocabulary
  let end: AnswerEnd
  let method: String?
  /// Whether answers are nothing but their text, where there are no tools and no schema; nil where there is no template.
  private let isPlain: Bool?

  /// Whether its corrections come beside the model's own rows: it shares passes with others, and its probabilities can
  /// be compared with the model's.
  package let sharesPasses: Bool

  init(_ predictor: any Predictor, _ language: ModelVocabulary, method: String?) {
    adapted = AdaptedModel(predictor)
    sharesPasses = predictor.adapter == nil
    self.language = language
    self.method = method
    end = AnswerEnd(templateOf: language)
    let asked = Conversation([ChatMessage(role: "user", content: "Q")])
    isPlain = (try? language.answerFormat(asked))?.rules.isPlain
  }

  /// Nil where an answer is nothing but its text: llama.cpp makes a parser from a template anew for each conversation.
  func format(_ conversation: Conversation, _ rules: AnswerRules, choices: Int) throws -> AnswerFormat? {
    if isPlain == true, conversation.tools == nil, rules.schema == nil { return nil }
    return try language.answerFormat(conversation, rules, choices: choices)
  }
}
