import Foundation
import LadderCore

/// What tells whether a run's or an adapter's files are others than before.
struct FileStamp: Equatable, Sendable {
  private let parts: [String]
  /// When the last of them changed, in seconds since 1970.
  let changed: Double

  /// - Parameter path: a run's folder, or a GGUF file.
  init(_ path: String) {
    let files = path.hasSuffix(".gguf") ? [path] : [path + "/ladder.json"] + Self.weights(of: path)
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
  static func weights(of run: String) -> [String] {
    [FileSet.current("ladder.safetensors", in: run), FileSet.current("adapter.gguf", in: run)]
  }
}
