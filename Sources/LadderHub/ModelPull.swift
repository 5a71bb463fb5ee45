import Foundation
import LadderCore

/// Finds a model's files in the cache, or fetches them.
struct ModelPull {
  let client: HubClient
  let cache: HubCache
  let choice: String?

  private var name: String { cache.repository }
  private var environment: HubEnvironment { client.environment }

  func run(refreshes: Bool) async throws -> String {
    // Without a choice only the hub knows whether another file is the preferred one.
    if !refreshes, let path = try cached(isStrict: choice == nil) { return path }
    if environment.isOffline {
      guard let path = try cached() else {
        throw LadderError(.missing, "\(wanted) is not in \(cache.root), and HF_HUB_OFFLINE keeps from fetching it")
      }
      return path
    }
    do { return try await fetch() } catch let error as LadderError where error.kind == .inputOutput && !refreshes {
      guard let path = try cached() else { throw error }
      client.report(.note("\(error.message); going on with \(path)"))
      return path
    }
  }

  private var wanted: String { choice.map { "\(name):\($0.shown)" } ?? name }

  // MARK: - In the cache

  private func cached(isStrict: Bool = false) throws -> String? {
    for root in [cache.root] + environment.otherCaches {
      let files = HubCache(root: root, repository: name).files()
      let paths = try? GGUFChoice.files(files.keys.sorted(), choice: choice, isStrict: isStrict)
      if let first = paths?.first { return files[first] }
    }
    return nil
  }

  // MARK: - At the hub

  private func fetch() async throws -> String {
    let commit = try await commit(), listed = try await files(of: commit)
    guard let paths = try GGUFChoice.files(listed.map(\.path), choice: choice) else {
      let there = GGUFChoice.choices(listed.map(\.path))
      guard !there.isEmpty else {
        throw LadderError(
          .data, "\(name) holds no GGUF file; take a repository that does, or convert the model with llama.cpp")
      }
      throw LadderError(.missing, "\(name) has no \(choice?.shown ?? "model"); it has \(Self.list(there))")
    }
    let files = paths.compactMap { path in listed.first { $0.path == path } }
    let lacking = files.filter { !cache.holds($0, commit) }
    try requireRoom(lacking)
    for file in lacking { try await download(file, commit) }
    for file in files { try cache.link(file, commit) }
    try cache.setMain(commit)
    return cache.snapshot(commit, paths[0])
  }

  private static func list(_ names: [String]) -> String {
    let shown = names.prefix(20).map(\.shown).joined(separator: ", ")
    return names.count > 20 ? shown + ", …" : shown
  }

  private func address(_ path: String) throws -> URL {
    guard let escaped = path.addingPercentEncoding(withAllowedCharacters: .urlPathAllowed),
      let url = URL(string: "\(environment.endpoint)/\(escaped)")
    else { throw LadderError(.data, "\(name): no address for \(path.shown)") }
    return url
  }

  private func commit() async throws -> String {
    struct Revision: Decodable { let sha: String }
    let data = try await client.json(try address("api/models/\(name)/revision/main"), what: "model \(name)").data
    guard let sha = (try? JSONDecoder().decode(Revision.self, from: data))?.sha, RepositoryFile.isHexadecimal(sha, 40)
    else { throw LadderError(.data, "\(environment.endpoint) does not answer as the hub does: no commit of \(name)") }
    return sha
  }

  private func files(of commit: String) async throws -> [RepositoryFile] {
    var url: URL? = URL(
      string: try address("api/models/\(name)/tree/\(commit)").absoluteString + "?recursive=true")
    var files: [RepositoryFile] = [], pages = 0
    while let page = url, pages < 1000 {
      let (data, next, _) = try await client.json(page, what: "model \(name)")
      guard let listed = RepositoryFile.list(data) else {
        throw LadderError(.data, "\(environment.endpoint) does not answer as the hub does: no list of \(name)'s files")
      }
      files += listed
      url = next
      pages += 1
    }
    return files
  }

  private func download(_ file: RepositoryFile, _ commit: String) async throws {
    let url = try address("\(name)/resolve/\(commit)/\(file.path)")
    try await BlobDownload(client: client, cache: cache, file: file, url: url).run()
  }

  /// - Throws: `inputOutput` before anything is fetched that will not find room.
  private func requireRoom(_ files: [RepositoryFile]) throws {
    if files.isEmpty { return }
    try DurableFile.makeFolder(cache.folder)
    let needed = files.reduce(0) { $0 + $1.size - (HubCache.size(cache.blob($1) + ".incomplete") ?? 0) }
    var status = statvfs()
    guard statvfs(cache.folder, &status) == 0 else { return }
    let free = Int(
      clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).partialValue)
    guard needed > free else { return }
    func megabytes(_ bytes: Int) -> String { String(format: "%.1f MB", Double(bytes) / 1e6) }
    throw LadderError(
      .inputOutput,
      "\(wanted) needs \(megabytes(needed)) and \(cache.root) has \(megabytes(free)) free; make room, or set "
        + "HF_HUB_CACHE to a folder on another disk")
  }
}
