import Foundation
import LadderCore

/// Keeps a run's folder to one process: held until it is released or the process ends, however that comes about.
final class RunLock {
  private let descriptor: Int32

  /// - Throws: `usage` where another process trains into the folder; `inputOutput` where the lock cannot be made.
  init(_ run: RunDirectory) throws {
    let path = run.path + "/lock"
    try DurableFile.makeFolder(run.path)
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw LadderError(.inputOutput, "cannot write \(path): \(String(cString: strerror(errno)))")
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw LadderError(.usage, "another process is training into \(run.path); wait for it, or take another `into`")
    }
  }

  deinit { close(descriptor) }
}
