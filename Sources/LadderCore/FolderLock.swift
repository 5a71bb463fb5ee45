import Foundation

/// Keeps a folder to one process: held until it is released or the process ends, however that comes about.
package final class FolderLock {
  private let descriptor: Int32
  private let folder: String
  /// Whether the folder was made for the lock.
  private let isNew: Bool

  /// - Parameters:
  ///   - work: what is done with the folder, `training` or the like.
  ///   - option: what names the folder.
  /// - Throws: `usage` where another process works in the folder; `inputOutput` where the lock cannot be made.
  package init(_ folder: String, _ work: String, option: String) throws {
    self.folder = folder
    isNew = !FileManager.default.fileExists(atPath: folder)
    descriptor = try Self.take(folder) {
      LadderError(.usage, "another process is \(work) into \(folder); wait for it, or take another `\(option)`")
    }
  }

  private static func take(_ folder: String, isTaken: () -> LadderError) throws -> Int32 {
    let path = Self.path(folder)
    while true {
      try DurableFile.makeFolder(folder)
      let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
      guard descriptor >= 0 else {
        // Its holder has just removed the folder.
        if errno == ENOENT { continue }
        throw LadderError(.inputOutput, "cannot write \(path): \(String(cString: strerror(errno)))")
      }
      guard DurableFile.lock(descriptor) else {
        close(descriptor)
        throw isTaken()
      }
      if isFile(descriptor, at: path) { return descriptor }
      close(descriptor)
    }
  }

  private static func path(_ folder: String) -> String { folder + "/lock" }

  /// Whether the file is the one under this name still.
  private static func isFile(_ descriptor: Int32, at path: String) -> Bool {
    var own = stat(), named = stat()
    return fstat(descriptor, &own) == 0 && stat(path, &named) == 0 && own.st_ino == named.st_ino
  }

  /// A start that failed leaves nothing behind.
  deinit {
    if isNew, (try? FileManager.default.contentsOfDirectory(atPath: folder)) == ["lock"] {
      unlink(Self.path(folder))
      rmdir(folder)
    }
    close(descriptor)
  }
}
