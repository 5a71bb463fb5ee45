import Foundation
import LadderCore
import NIOCore

/// Fetches one file's contents into the cache, from where an earlier try left off, and checks them.
struct BlobDownload {
  let client: HubClient
  let cache: HubCache
  let file: RepositoryFile
  let url: URL

  /// - Throws: `data` where what comes is not what the hub lists.
  func run() async throws {
    let path = cache.blob(file)
    try DurableFile.makeFolder((path as NSString).deletingLastPathComponent)
    let lock = try await cache.lock(file) {
      client.report(.note("another process fetches \(file.path); waiting for it"))
    }
    defer { withExtendedLifetime(lock) {} }
    if HubCache.size(path) == file.size { return }
    let partial = try PartialFile(path + ".incomplete")
    for isLast in [false, true] {
      let sum = try await fetch(partial)
      if sum == file.checksum { return try partial.finish(as: path) }
      // What an earlier try left may be what is wrong.
      try partial.truncate(to: 0)
      if isLast { break }
      client.report(.note("\(file.path) came with the wrong checksum; once more from its start"))
    }
    unlink(partial.path)
    throw LadderError(
      .data,
      "\(file.path.shown) came twice with another checksum than the hub lists (\(file.checksum.prefix(12))…); "
        + "what came is removed, try it again later")
  }

  /// - Returns: the checksum of what came.
  private func fetch(_ partial: PartialFile) async throws -> String {
    if partial.count > file.size { try partial.truncate(to: 0) }
    var sum = file.newChecksum, checked = 0
    let check = ProgressMeter(
      "\(file.path), what is there", from: 0, of: partial.count, isQuiet: true, report: client.report)
    try partial.read {
      sum.update($0)
      checked += $0.count
      check.show(checked)
      try Cancellation.check()
    }
    let meter = ProgressMeter(file.path, from: partial.count, of: file.size, report: client.report)
    var hashed = sum
    try await client.again(file.path.shown) {
      while partial.count < file.size {
        let before = partial.count
        try await attempt(partial, &hashed, meter)
        if partial.count == before { throw HubClient.Passing("the hub sends nothing of \(file.path.shown)") }
      }
    }
    return hashed.hexadecimal()
  }

  /// Takes what one answer brings.
  private func attempt(
    _ partial: PartialFile, _ sum: inout RepositoryFile.Checksum, _ meter: ProgressMeter
  ) async throws {
    let start = partial.count
    let answer = try await client.get(
      url, what: file.path.shown, headers: start > 0 ? ["Range": "bytes=\(start)-"] : [:])
    if start > 0, !isContinuation(answer, from: start) {
      try partial.truncate(to: 0)
      sum = file.newChecksum
      if answer.status == 416 { return try await attempt(partial, &sum, meter) }
    }
    do {
      for try await part in answer.response.body {
        try part.withUnsafeReadableBytes { bytes in
          guard partial.count + bytes.count <= file.size else {
            try partial.truncate(to: 0)
            throw LadderError(.data, "\(file.path.shown) is longer than the \(file.size) bytes that the hub lists")
          }
          try partial.append(bytes)
          sum.update(bytes)
        }
        meter.show(partial.count)
        try Cancellation.check()
      }
    } catch let error as LadderError {
      throw error
    } catch {
      try Cancellation.check()
      var passing = HubClient.Passing("\(file.path.shown): the connection broke (\(HTTPTransport.reason(error)))")
      passing.hasProgress = partial.count > start
      throw passing
    }
  }

  /// Whether the answer goes on where the file ends.
  private func isContinuation(_ answer: HubClient.Answer, from start: Int) -> Bool {
    guard answer.status == 206, let range = answer.header("Content-Range") else { return false }
    return range.hasPrefix("bytes \(start)-")
  }
}
