import Foundation
import LadderCore

/// Keeps a run's folder to one process: held until it is released or the process ends, however that comes about.
final class RunLock {
  private let descriptor: Int32
  private let run: RunDirectory
  /// Whether the folder was made for the lock.
  private let isNew: Bool

  /// - Throws: `usage` where another process trains into the folder; `inputOutput` where the lock cannot be made.
  init(_ run: RunDirectory) throws {
    self.run = run
    isNew = !FileManager.default.fileExists(atPath: run.path)
    descriptor = try Self.take(run)
  }

  private static func take(_ run: RunDirectory) throws -> Int32 {
    let path = Self.path(run)
    while true {
      try DurableFile.makeFolder(run.path)
      let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
      guard descriptor >= 0 else {
        // Its holder has just removed the folder.
        if errno == ENOENT { continue }
        throw LadderError(.inputOutput, "cannot write \(path): \(String(cString: strerror(errno)))")
      }
      guard DurableFile.lock(descriptor) else {
        close(descriptor)
        throw LadderError(.usage, "another process is training into \(run.path); wait for it, or take another `into`")
      }
      if isFile(descriptor, at: path) { return descriptor }
      close(descriptor)
    }
  }

  private static func path(_ run: RunDirectory) -> String { run.path + "/lock" }

  /// Whether the file is the one under this name still.
  private static func isFile(_ descriptor: Int32, at path: String) -> Bool {
    var own = stat(), named = stat()
    return fstat(descriptor, &own) == 0 && stat(path, &named) == 0 && own.st_ino == named.st_ino
  }

  /// A start that failed leaves nothing behind.
  deinit {
    if isNew, (try? FileManager.default.contentsOfDirectory(atPath: run.path)) == ["lock"] {
      unlink(Self.path(run))
      rmdir(run.path)
    }
    close(descriptor)
  }
}
