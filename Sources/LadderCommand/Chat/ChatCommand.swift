import ArgumentParser
import Foundation
import Ladder

struct ChatCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chat",
    abstract: "Talk with the model and with what you trained on it.",
    discussion: """
      Every turn is answered by the model or by one of the runs, which share what the model has read so far: to change
      between them costs next to nothing. Lines can be edited, the arrows bring earlier ones back, and one that ends with
      a backslash goes on. Ctrl-C ends an answer, and at the prompt the chat.

      \(ChatCommand.commands)
      """)

  static let commands = """
    /system TEXT   what the model is told before the first turn
    /ladder NAME   who answers from here on: a run by its name, or by its folder, which is loaded then
    /base          the model alone answers
    /ladders       who there is
    /undo          take the last question and its answer back
    /clear         begin anew
    /save FILE     keep the conversation, as a line that ladder train learns from
    /load FILE     go on with one
    /help          this
    /quit          end
    """

  @OptionGroup var options: ModelOptions
  @Option(
    help: ArgumentHelp("A run's folder; its name is the folder's. Several times for several.", valueName: "run"),
    completion: .directory)
  var adapter: [String] = []
  @Flag(help: "Show the answers of the model alone and of the run side by side.") var compare = false
  @Flag(
    help: """
      Send what is written as it stands, without a template and without what came before: for what was trained on prompts \
      and completions. \\n stands for a new line.
      """)
  var plain = false
  @Flag(help: "Say behind each answer how fast it was, and what of its prompt was read before.") var timings = false
  @Option(help: ArgumentHelp("What the model is told before the first turn.", valueName: "text")) var system: String?
  @OptionGroup var chatArguments: ChatArguments
  @Option(help: ArgumentHelp("Tokens of an answer at most.", valueName: "N")) var maxTokens = 1024
  @Option(
    help: ArgumentHelp(
      "Tokens that are set aside for conversations (default: what the model was trained on, 8192 at most).",
      valueName: "N"))
  var context: Int?
  @OptionGroup var sampling: SamplingArguments

  func run() async throws {
    guard (1...1 << 20).contains(maxTokens) else {
      throw LadderError(.usage, "--max-tokens must be 1 to \(1 << 20)")
    }
    if let context, !(16...1 << 24).contains(context) {
      throw LadderError(.usage, "--context must be 16 to \(1 << 24)")
    }
    if compare, adapter.isEmpty { throw LadderError(.usage, "--compare needs a run to compare with: pass --adapter") }
    var generation = GenerationOptions()
    generation.maxTokens = maxTokens
    generation.sampling = try sampling.options(chats: true)
    for path in adapter { _ = try RunDirectory(path).manifest() }
    let backbone = try await options.load()
    try chatArguments.apply(to: backbone.language)
    var settings = GenerationEngine.Settings()
    settings.tokens = context
    settings.texts = 4
    let engine = try GenerationEngine(backbone, settings: settings)
    var chat = Talk(
      engine: engine, options: generation, isPlain: plain, compares: compare, template: try chatArguments.settings())
    for path in adapter { try await chat.load(path) }
    if !plain { try await engine.requireTemplate(of: chat.session.answers) }
    if let system { chat.session.tellSystem(system) }
    chat.tellsSpeed = timings
    try await chat.run()
  }
}
