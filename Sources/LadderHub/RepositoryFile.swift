import Foundation
import LadderCore

/// A file of a model's repository, as the hub lists it.
struct RepositoryFile: Sendable, Equatable {
  let path: String
  /// The name of its contents: the SHA-256 of a large file, git's SHA-1 of a small one.
  let checksum: String
  let size: Int

  /// How its contents are checked.
  enum Checksum {
    case sha256(SHA256)
    case git(GitChecksum)

    mutating func update(_ bytes: UnsafeRawBufferPointer) {
      switch self {
      case .sha256(var sum):
        self = .git(GitChecksum(size: 0))  // so that one copy is there
        sum.update(bytes)
        self = .sha256(sum)
      case .git(var sum):
        sum.update(bytes)
        self = .git(sum)
      }
    }

    func hexadecimal() -> String {
      switch self {
      case .sha256(let sum): sum.hexadecimal()
      case .git(let sum): sum.hexadecimal()
      }
    }
  }

  var newChecksum: Checksum { checksum.count == 64 ? .sha256(SHA256()) : .git(GitChecksum(size: size)) }

  /// The files in an answer of the hub's `tree`; nil for one that is none. What could stand for a place outside the
  /// repository's folder is left out.
  static func list(_ data: Data) -> [RepositoryFile]? {
    guard let entries = try? JSONDecoder().decode([Entry].self, from: data) else { return nil }
    return entries.compactMap { entry in
      guard entry.type == "file", isSafe(entry.path) else { return nil }
      guard let sum = entry.lfs?.oid ?? entry.oid, let size = entry.lfs?.size ?? entry.size, size >= 0,
        isHexadecimal(sum, entry.lfs == nil ? 40 : 64)
      else { return nil }
      return RepositoryFile(path: entry.path, checksum: sum.lowercased(), size: size)
    }
  }

  private struct Entry: Decodable {
    struct Large: Decodable {
      let oid: String
      let size: Int?
    }
    let type: String
    let path: String
    let oid: String?
    let size: Int?
    let lfs: Large?
  }

  static func isHexadecimal(_ text: String, _ count: Int) -> Bool {
    text.utf8.count == count && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0 | 0x20) }
  }

  private static func isSafe(_ path: String) -> Bool {
    path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { !["", ".", ".."].contains($0) }
      && path.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F && $0 != "\\" }
  }
}
