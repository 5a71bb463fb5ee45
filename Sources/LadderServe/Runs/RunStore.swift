import Foundation
import LadderCore
import LadderTrain

/// The training runs that the page shows: those of a folder, or some by their paths.
struct RunStore: Sendable {
  /// Holds runs, each in a folder of its own.
  var folder: String?
  /// Runs beside those.
  var paths: [String] = []

  /// The runs by their names.
  func runs() -> [String: RunDirectory] {
    var found: [String: RunDirectory] = [:]
    for path in paths { found[(path as NSString).lastPathComponent] = RunDirectory(path) }
    if let folder {
      for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] where !name.hasPrefix(".") {
        if found[name] == nil { found[name] = RunDirectory("\(folder)/\(name)") }
      }
    }
    return found.filter { FileManager.default.fileExists(atPath: $0.value.manifestPath) || $0.value.hasMetrics }
  }

  /// - Throws: `APIError` for a name that no run has.
  func run(_ name: String) throws -> RunDirectory {
    guard let run = runs()[name] else {
      throw APIError(.notFound, "there is no run \(name.shown)", code: "not_found")
    }
    return run
  }
}

extension RunDirectory {
  fileprivate var hasMetrics: Bool { FileManager.default.fileExists(atPath: metricsPath) }
}
