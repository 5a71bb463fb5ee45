import Foundation
import LadderCore
import LadderMethods

/// What tells whether a run's or an adapter's files are others than before.
package struct FileStamp: Equatable, Sendable {
  private let parts: [String]
  /// When the last of them changed, in seconds since 1970.
  package let changed: Double

  /// - Parameter path: a run's folder, or a GGUF file.
  package init(_ path: String) {
    let files = path.hasSuffix(".gguf") ? [path] : [RunDirectory(path).manifestPath] + Self.weights(of: path)
    var latest = 0.0
    parts = files.map { file in
      var status = stat()
      guard stat(file, &status) == 0 else { return "" }
      #if canImport(Darwin)
        let time = status.st_mtimespec
      #else
        let time = status.st_mtim
      #endif
      latest = max(latest, Double(time.tv_sec))
      return "\(status.st_ino) \(status.st_size) \(time.tv_sec) \(time.tv_nsec)"
    }
    changed = latest
  }

  /// Where a run's weights may be.
  package static func weights(of run: String) -> [String] {
    [RunDirectory.weightsName, AdapterFiles.gguf].map { FileSet.current($0, in: run) }
  }
}
