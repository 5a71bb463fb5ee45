import Foundation

/// Standard output for results, standard error for everything else.
enum Terminal {
  static let isInteractive = isatty(STDERR_FILENO) != 0
  /// Says nothing: another process speaks for this one.
  nonisolated(unsafe) static var isQuiet = false
  nonisolated(unsafe) private static var lineIsOpen = false
  nonisolated(unsafe) private static var blockLines = 0
  nonisolated(unsafe) private static var lastPlain = ContinuousClock.now - .seconds(60)

  static func output(_ text: String) { write(text + "\n", STDOUT_FILENO) }
  static func outputPiece(_ text: String) { write(text, STDOUT_FILENO) }

  /// One JSON object, its keys in order.
  static func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }

  static func note(_ text: String) {
    finishLine()
    write(FlagNames.flags(in: text) + "\n", STDERR_FILENO)
  }

  static func error(_ text: String) {
    write(FlagNames.flags(in: text).replacingOccurrences(of: "\n", with: " ") + "\n", STDERR_FILENO)
  }

  /// Progress: a line that is written over on a terminal; elsewhere plain lines, one every few seconds unless `always`.
  static func progress(_ text: String, always: Bool = false) {
    if isInteractive {
      write("\r\u{1B}[K" + text, STDERR_FILENO)
      lineIsOpen = true
    } else if always || ContinuousClock.now - lastPlain >= .seconds(5) {
      write(text + "\n", STDERR_FILENO)
      lastPlain = .now
    }
  }

  static func finishLine() {
    if lineIsOpen { write("\n", STDERR_FILENO) }
    lineIsOpen = false
    blockLines = 0
  }

  /// Lines that the next block writes over, on a terminal.
  static func block(_ lines: [String]) {
    let above = lineIsOpen ? "\r\u{1B}[K" : ""
    let up = blockLines > 0 ? "\u{1B}[\(blockLines)A\r\u{1B}[J" : ""
    lineIsOpen = false
    let wide = columns
    write(above + up + lines.map { String($0.prefix(wide)) + "\n" }.joined(), STDERR_FILENO)
    blockLines = lines.count
  }

  private static var columns: Int { columns(of: STDERR_FILENO) }

  static func columns(of descriptor: Int32) -> Int {
    var size = winsize()
    return ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 120
  }

  /// A table's rows with their columns under one another.
  static func aligned(_ rows: [[String]]) -> [String] {
    let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      zip(row, widths).map { cell, width in cell + String(repeating: " ", count: width - cell.count) }
        .joined(separator: "  ")
    }
  }

  static func bytes(_ count: Int) -> String {
    count >= 1 << 30 ? String(format: "%.2f GB", Double(count) / 1e9) : String(format: "%.0f MB", Double(count) / 1e6)
  }

  static func time(_ seconds: Double) -> String {
    let whole = Int(max(0, seconds).rounded())
    return whole >= 3600
      ? String(format: "%d:%02d:%02d", whole / 3600, whole / 60 % 60, whole % 60)
      : String(format: "%d:%02d", whole / 60, whole % 60)
  }

  static func count(_ value: Int) -> String {
    value >= 1_000_000
      ? String(format: "%.2f M", Double(value) / 1e6)
      : value >= 10_000 ? String(format: "%.1f k", Double(value) / 1e3) : String(value)
  }

  private static func write(_ text: String, _ descriptor: Int32) {
    if isQuiet { return }
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let written = bytes.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if written <= 0 {
        // Nobody reads on: this ends as any program does, though workers have the signal ignored.
        if errno == EPIPE, descriptor == STDOUT_FILENO {
          signal(SIGPIPE, SIG_DFL)
          raise(SIGPIPE)
        }
        return
      }
      bytes = bytes.dropFirst(written)
    }
  }
}
