import CChat
import Foundation

/// What a user writes, a line at a time: on a terminal with editing and history, elsewhere as it comes.
final class TerminalLines: @unchecked Sendable {
  private let isTerminal = isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0

  init() { if isTerminal { ladder_line_open() } }

  /// The terminal is as it was before from here on.
  func close() { if isTerminal { ladder_line_close() } }

  /// - Parameter prompt: shown on a terminal.
  /// - Returns: nil at the end.
  func next(_ prompt: String) -> String? {
    guard isTerminal else { return readLine() }
    Terminal.outputPiece(prompt)
    guard let line = ladder_line_read() else { return nil }
    defer { ladder_chat_free_text(line) }
    return String(cString: line)
  }
}
