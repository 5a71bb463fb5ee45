import Logging

/// swift-log's messages as lines on standard error.
struct TerminalLog: LogHandler {
  var logLevel: Logger.Level
  var metadata: Logger.Metadata = [:]

  /// - Parameter verbose: tells every request.
  static func logger(verbose: Bool) -> Logger {
    Logger(label: "ladder") { _ in TerminalLog(logLevel: verbose ? .info : .notice) }
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    Terminal.note((event.level >= .warning ? "\(event.level): " : "") + event.message.description)
  }
}
