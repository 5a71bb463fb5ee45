import ArgumentParser
import Foundation
import Ladder

struct Generate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Continue a prompt.")

  @OptionGroup var options: ModelOptions
  @Option(help: ArgumentHelp("A run's folder.", valueName: "run"), completion: .directory) var adapter: String?
  @Option(
    help: ArgumentHelp(
      "The text to continue; \\n stands for a new line. - reads standard input and takes it as it stands, the line end "
        + "at its end included.",
      valueName: "text"))
  var prompt: String
  @Flag(help: "Put the prompt into the model's chat template, as the user's turn.") var chat = false
  @OptionGroup var chatArguments: ChatArguments
  @Option(help: ArgumentHelp("Tokens to generate at most.", valueName: "N")) var maxTokens = 256
  @OptionGroup var stops: StopArguments
  @OptionGroup var sampling: SamplingArguments

  func run() async throws {
    guard (1...1 << 20).contains(maxTokens) else {
      throw LadderError(.usage, "--max-tokens must be 1 to \(1 << 20)")
    }
    var settings = GenerationOptions()
    settings.maxTokens = maxTokens
    settings.sampling = try sampling.options(chats: false)
    settings.stop = try stops.texts()
    let adapter = adapter.map { RunDirectory($0) }
    if let adapter { _ = try adapter.manifest() }
    let text = prompt == "-" ? try Self.standardInput() : StopArguments.unescaped(prompt)
    let backbone = try await options.load()
    if let note = try adapter?.note() { Terminal.note(note) }
    let final = settings, chatArguments = chatArguments, chat = chat
    let result = try await interruptible {
      let model = try LadderModel(backbone, adapter: adapter)
      try chatArguments.apply(to: model.language, over: model.chat)
      let asked = Conversation([ChatMessage(role: "user", content: text)])
      return chat
        ? try model.generate(asked, options: final) { Terminal.outputPiece($0) }
        : try model.generate(text, options: final) { Terminal.outputPiece($0) }
    }
    Terminal.output("")
    Terminal.note(
      String(
        format: "%d tokens at %.1f tok/s after a prompt of %d at %.0f tok/s", result.tokens, result.tokensPerSecond,
        result.promptTokens,
        Double(result.promptTokens) / max(1e-9, result.promptSeconds)))
  }

  /// - Throws: `usage` where nothing comes; `data` for what is no text in UTF-8.
  private static func standardInput() throws -> String {
    let input = FileHandle.standardInput.readDataToEndOfFile()
    if input.isEmpty { throw LadderError(.usage, "standard input is empty: there is no prompt") }
    if let zero = input.firstIndex(of: 0) {
      throw LadderError(.data, "standard input holds a zero byte (byte \(zero + 1)); a prompt is text in UTF-8")
    }
    guard let text = String(validating: input, as: UTF8.self) else {
      throw LadderError(.data, "standard input is not UTF-8; write the prompt in UTF-8 (iconv -t UTF-8)")
    }
    return text
  }
}
