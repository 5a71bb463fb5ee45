import LadderBackbone

/// A text that can be continued as often as one likes.
package struct PreparedPrompt: Sendable {
  package var tokens: [Int32]
  let model: LoadedModel
  let end: AnswerEnd
  /// How answers are read; nil where they are nothing but their text.
  package let format: AnswerFormat?

  init(tokens: [Int32], _ model: LoadedModel, end: AnswerEnd, format: AnswerFormat?) {
    self.tokens = tokens
    self.model = model
    self.end = end
    self.format = format
  }

  /// Tokens as they stand.
  package init(tokens: [Int32], _ model: LoadedModel) {
    self.init(tokens: tokens, model, end: AnswerEnd(), format: nil)
  }

  func prompt(_ options: GenerationOptions, _ language: ModelVocabulary) throws -> Prompt {
    guard let format else { return Prompt(tokens, options: options, end: end) }
    var options = options, end = end
    // A format without a grammar leaves the caller's.
    language.constrain(&options.sampling, by: format)
    end.texts += format.rules.stops
    return Prompt(tokens, options: options, end: end, preserved: language.preserved(by: format))
  }
}
