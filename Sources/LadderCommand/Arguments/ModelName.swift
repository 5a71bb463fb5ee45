import Foundation
import Ladder
import LadderHub

/// What `--model` names: a file, or a model at the hub.
enum ModelName {
  /// The file's path. A model of the hub's is taken from its cache, or fetched into it.
  static func path(_ name: String) async throws -> String {
    guard HubName.isOne(name) else { return name }
    let hub = Hub(try HubEnvironment(), report: HubView.show)
    let named = try HubName(name)
    let path = try await interruptible { try await hub.model(named) }
    Terminal.finishLine()
    return path
  }

  static func path(_ name: String?) async throws -> String? {
    guard let name else { return nil }
    return try await path(name) as String
  }
}

/// What is shown while something is fetched.
enum HubView {
  @Sendable static func show(_ event: HubEvent) {
    switch event {
    case .note(let text): Terminal.note(text)
    case .progress(let progress): Terminal.progress(line(progress), always: progress.done == progress.total)
    }
  }

  private static func line(_ progress: HubProgress) -> String {
    func amount(_ count: Int) -> String {
      if progress.countsRows { return String(count) }
      return count < 10_000_000 ? String(format: "%.1f MB", Double(count) / 1e6) : Terminal.bytes(count)
    }
    let name = (progress.name as NSString).lastPathComponent.shown
    var text = "\(name)  \(amount(progress.done))"
    if let total = progress.total { text += " of \(amount(total))" }
    text +=
      progress.countsRows ? " rows, \(Int(progress.speed))/s" : String(format: "  %.1f MB/s", progress.speed / 1e6)
    if let left = progress.secondsLeft, left >= 1 { text += "  \(Terminal.time(left)) left" }
    return text
  }
}
