import ArgumentParser
import Ladder

/// How tokens are drawn.
struct SamplingArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "0 always takes the likeliest token (default: 0; in a chat 0.8, with a --top-p of 0.95).", valueName: "T"))
  var temperature: Float?
  @Option(help: ArgumentHelp("Keep so many of the likeliest tokens (default: a thousand).", valueName: "K"))
  var topK: Int?
  @Option(
    help: ArgumentHelp("Keep the likeliest tokens that together reach this probability (default 1).", valueName: "P"))
  var topP: Float?
  @Option(
    help: ArgumentHelp("Keep tokens that are at least so likely beside the likeliest (default 0).", valueName: "P"))
  var minP: Float?
  @Option(
    help: ArgumentHelp("What the logits of tokens that came before are divided by (default 1).", valueName: "F"))
  var repeatPenalty: Float?
  @Option(
    help: ArgumentHelp("A grammar that the text has to keep to, in llama.cpp's GBNF.", valueName: "file.gbnf"),
    completion: .file(extensions: ["gbnf"]))
  var grammar: String?
  @Option(help: ArgumentHelp("Seed of the sampling.", valueName: "S")) var seed: UInt32?

  /// - Parameter chats: takes a chat's defaults.
  /// - Throws: `usage`, `missing`.
  func options(chats: Bool) throws -> SamplingOptions {
    var options = SamplingOptions()
    options.temperature = temperature ?? (chats ? 0.8 : 0)
    options.topP = topP ?? (chats ? 0.95 : 1)
    options.topK = topK ?? 0
    options.minP = minP ?? 0
    options.repeatPenalty = repeatPenalty ?? 1
    options.seed = seed ?? (chats ? UInt32.random(in: .min ... .max) : 0)
    options.grammar = try grammar.map { path in
      guard let text = String(validating: try DurableFile.read(path), as: UTF8.self) else {
        throw LadderError(.data, "\(path) is not text in UTF-8")
      }
      return text
    }
    try options.validate()
    return options
  }
}
