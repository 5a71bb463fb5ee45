import Foundation

/// Files of a folder that change together: all of them or none, at whatever moment a process ends.
///
/// They are written into `files.tmp/`, which becomes `files.new/` once all are whole; from there each takes its place.
/// What a killed process left is completed, or forgotten, by `settle`.
package enum FileSet {
  private static let unfinished = "files.tmp", finished = "files.new"

  /// - Parameter body: writes the files into the folder that it is given.
  package static func write(in folder: String, _ body: (String) throws -> Void) throws {
    try settle(folder)
    let place = "\(folder)/\(unfinished)"
    try DurableFile.makeFolder(place)
    do {
      try body(place)
      DurableFile.syncFolder(place)
      try DurableFile.move(place, to: "\(folder)/\(finished)")
    } catch {
      try? FileManager.default.removeItem(atPath: place)
      throw error
    }
    try settle(folder)
  }

  /// Puts in place what was whole, and removes what was not.
  package static func settle(_ folder: String) throws {
    let whole = "\(folder)/\(finished)"
    let left = [whole, "\(folder)/\(unfinished)"].filter { FileManager.default.fileExists(atPath: $0) }
    if left.isEmpty { return }
    for name in (try? FileManager.default.contentsOfDirectory(atPath: whole)) ?? [] {
      try DurableFile.move("\(whole)/\(name)", to: "\(folder)/\(name)")
    }
    for place in left { try? FileManager.default.removeItem(atPath: place) }
    DurableFile.syncFolder(folder)
  }

  /// Where a file is to be read: in place, or where a process that ended left it whole.
  package static func current(_ name: String, in folder: String) -> String {
    let left = "\(folder)/\(finished)/\(name)"
    return FileManager.default.fileExists(atPath: left) ? left : "\(folder)/\(name)"
  }
}
