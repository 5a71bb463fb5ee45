import Foundation
import LadderCore

/// A model's folder in the hub's cache, in the layout of the hub's own library and of llama.cpp:
///
///     models--OWNER--REPO/refs/main               the commit that was last fetched
///     models--OWNER--REPO/snapshots/COMMIT/PATH   a link to the file's contents
///     models--OWNER--REPO/blobs/CHECKSUM          the contents; CHECKSUM.incomplete while they come
struct HubCache {
  let root: String
  let repository: String

  private var folderName: String { "models--" + repository.replacingOccurrences(of: "/", with: "--") }
  var folder: String { "\(root)/\(folderName)" }
  private var mainPath: String { folder + "/refs/main" }

  func blob(_ file: RepositoryFile) -> String { "\(folder)/blobs/\(file.checksum)" }
  func snapshot(_ commit: String, _ path: String) -> String { "\(folder)/snapshots/\(commit)/\(path)" }

  // MARK: - What is there

  /// The paths of a snapshot's files that are whole, by their names in the repository.
  func files() -> [String: String] {
    guard let commit else { return [:] }
    let place = "\(folder)/snapshots/\(commit)"
    var files: [String: String] = [:]
    for name in FileManager.default.subpaths(atPath: place) ?? [] {
      var isFolder: ObjCBool = false
      // What a link leads to counts.
      if FileManager.default.fileExists(atPath: "\(place)/\(name)", isDirectory: &isFolder), !isFolder.boolValue {
        files[name] = "\(place)/\(name)"
      }
    }
    return files
  }

  /// The commit of `main`, else of another branch.
  private var commit: String? {
    let refs = folder + "/refs"
    let others = ((try? FileManager.default.subpathsOfDirectory(atPath: refs)) ?? []).sorted()
    for name in ["main"] + others {
      guard let text = try? String(contentsOfFile: "\(refs)/\(name)", encoding: .utf8) else { continue }
      let commit = text.trimmingCharacters(in: .whitespacesAndNewlines)
      if RepositoryFile.isHexadecimal(commit, 40) { return commit }
    }
    return nil
  }

  /// Whether a file's contents are there, whoever fetched them.
  func holds(_ file: RepositoryFile, _ commit: String) -> Bool {
    [blob(file), snapshot(commit, file.path)].contains { Self.size($0) == file.size }
  }

  static func size(_ path: String) -> Int? {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG ? Int(status.st_size) : nil
  }

  // MARK: - What is put there

  /// Lets a snapshot have a file whose contents are there.
  func link(_ file: RepositoryFile, _ commit: String) throws {
    let path = snapshot(commit, file.path)
    if Self.size(path) == file.size { return }
    let place = (path as NSString).deletingLastPathComponent
    try DurableFile.makeFolder(place)
    let up = String(repeating: "../", count: file.path.split(separator: "/").count + 1)
    let temporary = "\(path).\(getpid()).tmp"
    unlink(temporary)
    if symlink("\(up)blobs/\(file.checksum)", temporary) == 0 {
      try DurableFile.move(temporary, to: path)
    } else {
      // A file system without links.
      try DurableFile.move(blob(file), to: path)
    }
    DurableFile.syncFolder(place)
  }

  /// Makes a commit the present one.
  func setMain(_ commit: String) throws {
    if (try? String(contentsOfFile: mainPath, encoding: .utf8)) == commit { return }
    try DurableFile.makeFolder(folder + "/refs")
    try DurableFile.write(mainPath, [Data(commit.utf8)])
  }

  // MARK: - One process at a time

  /// The lock that the hub's own library takes too while it fetches these contents.
  func lock(_ file: RepositoryFile, waiting: () -> Void) async throws -> FileLock {
    let place = "\(root)/.locks/\(folderName)"
    try DurableFile.makeFolder(place)
    return try await FileLock("\(place)/\(file.checksum).lock", waiting: waiting)
  }
}

/// A file's lock, held until it is released or the process ends.
final class FileLock: Sendable {
  private let descriptor: Int32

  init(_ path: String, waiting: () -> Void) async throws {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw LadderError(.inputOutput, "cannot write \(path): \(String(cString: strerror(errno)))")
    }
    self.descriptor = descriptor
    var isTold = false
    while !DurableFile.lock(descriptor) {
      if !isTold { waiting() }
      isTold = true
      try? await Task.sleep(for: .milliseconds(200))
      try Cancellation.check()
    }
  }

  deinit { close(descriptor) }
}
