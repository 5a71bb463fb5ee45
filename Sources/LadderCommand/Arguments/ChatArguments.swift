import ArgumentParser
import Ladder

/// How conversations are rendered.
struct ChatArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A Jinja template for conversations in place of the model's own (a run keeps the one it was trained with).",
      valueName: "file"),
    completion: .file())
  var chatTemplate: String?
  @Option(
    help: ArgumentHelp(
      "What the template is given by name, e.g. '{\"enable_thinking\": false}'; a sample's \"chat_template_kwargs\" win.",
      valueName: "json"))
  var chatTemplateOptions: String?

  /// What the command line gives.
  func settings() throws -> ChatSettings? {
    try ChatSettings(templatePath: chatTemplate, options: chatTemplateOptions)
  }

  /// Sets what the command line gives; what it does not stays as the run was trained with.
  func apply(to language: ModelVocabulary, over run: ChatSettings? = nil) throws {
    if let settings = try settings() { language.use(settings.over(run)) }
  }
}
