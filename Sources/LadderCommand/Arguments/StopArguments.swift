import ArgumentParser
import Ladder

/// Where texts end.
struct StopArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "End where this text appears, and leave it out; \\n stands for a new line. Several times for several texts.",
      valueName: "text"))
  var stop: [String] = []

  /// - Throws: `usage` for an empty text.
  func texts() throws -> [String] {
    if stop.contains("") { throw LadderError(.usage, "--stop is empty; write the text to stop at") }
    return stop.map(Self.unescaped)
  }

  static func unescaped(_ text: String) -> String { text.replacingOccurrences(of: "\\n", with: "\n") }
}
