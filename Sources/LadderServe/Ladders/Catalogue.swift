import Foundation
import LadderCore
import LadderInference
import LadderTrain
import Logging

/// The names that are served: the base model's, and those of what was trained on it. A folder's runs are looked at
/// when they are asked for, so that what was just put there answers the next request.
actor Catalogue {
  /// One name.
  struct Entry: Sendable {
    let name: String
    let path: String
    let method: String?
    let created: Int
    /// Where it comes from.
    let origin: Origin
    /// What its files were when it was loaded.
    fileprivate let stamp: FileStamp
  }

  enum Origin: Sendable, Equatable {
    /// The watched folder.
    case folder
    /// The server's settings.
    case settings
    /// A request.
    case request
  }

  nonisolated let base: String
  nonisolated let began = Int(Date().timeIntervalSince1970)
  private let engine: GenerationEngine
  private let folder: String?
  private let template: ChatSettings?
  private let logger: Logger
  private var entries: [String: Entry] = [:]
  /// What could not be loaded, as it was then.
  private var failed: [String: (stamp: FileStamp, reason: String)] = [:]
  /// One load at a time.
  private var lastLoad: Task<Void, Never>?

  init(_ engine: GenerationEngine, base: String, folder: String?, template: ChatSettings?, logger: Logger) {
    self.engine = engine
    self.base = base
    self.folder = folder
    self.template = template
    self.logger = logger
  }

  // MARK: - Names

  /// - Throws: `APIError` for a name that nothing has, or whose run cannot be loaded.
  func resolve(_ name: String) async throws -> LoadedModel {
    if name == base, let model = await engine.loaded(nil) { return model }
    await look(at: name)
    guard entries[name] != nil, let model = await engine.loaded(name) else {
      guard let failure = failed[name] else { throw APIError.unknownModel(name) }
      throw APIError(
        .notFound, "\(name.shown) cannot be served: \(failure.reason)", field: "model", code: "model_not_found")
    }
    return model
  }

  /// All that is served beside the base model, by name.
  func list() async -> [Entry] {
    await lookAtAll()
    return entries.values.sorted { $0.name < $1.name }
  }

  func isServed(_ name: String) -> Bool { entries[name] != nil }

  // MARK: - Loading

  /// - Throws: `APIError` for a name that is taken; what loading throws.
  func load(_ path: String, as name: String, _ origin: Origin) async throws {
    guard !name.isEmpty, name.utf8.count <= 200 else {
      throw APIError.bad("lora_name", "a name has 1 to 200 bytes")
    }
    if name == base { throw APIError.bad("lora_name", "\(name.shown) is the base model's name") }
    try await inTurn { try await self.loadWhatIsNew(path, as: name, origin) }
  }

  private func inTurn(_ load: @escaping @Sendable () async throws -> Void) async throws {
    let before = lastLoad
    let task = Task {
      await before?.value
      try await load()
    }
    lastLoad = Task { _ = await task.result }
    try await task.value
  }

  private func loadWhatIsNew(_ path: String, as name: String, _ origin: Origin) async throws {
    if let entry = entries[name] {
      throw APIError.bad("lora_name", "\(name.shown) is served already, from \(entry.path.shown); unload it first")
    }
    try await load(path, as: name, origin, FileStamp(path))
  }

  /// - Throws: `APIError` for a name that nothing has, or that the folder brings back.
  func unload(_ name: String) async throws {
    guard let entry = entries[name] else { throw APIError.unknownModel(name) }
    if entry.origin == .folder {
      throw APIError.bad("lora_name", "\(name.shown) is served from the watched folder; remove it there")
    }
    entries[name] = nil
    await engine.unload(name)
  }

  private func load(_ path: String, as name: String, _ origin: Origin, _ stamp: FileStamp) async throws {
    let method: String?
    do {
      if path.hasSuffix(".gguf") {
        try await engine.load(adapter: path, as: name, template: template)
      } else {
        try await engine.load(RunDirectory(path), as: name, template: template)
      }
      method = await engine.method(of: name)
    } catch {
      // Who asked is told; the folder's next look would try again.
      if origin == .folder { failed[name] = (stamp, error.message) }
      throw error
    }
    failed[name] = nil
    entries[name] = Entry(
      name: name, path: path, method: method, created: Int(stamp.changed), origin: origin, stamp: stamp)
    logger.notice("serving \(name.shown) from \(path.shown)")
  }

  // MARK: - The folder

  /// Loads what is new or was replaced, and forgets what is gone.
  func lookAtAll() async {
    guard let folder else { return }
    let found = (try? Self.names(in: folder)) ?? []
    let gone = entries.values.filter { $0.origin == .folder && !found.contains($0.name) }
    for name in Set(found + gone.map(\.name)).sorted() { await look(at: name) }
  }

  /// The same for one name.
  private func look(at name: String) async {
    // A name that the folder's own list would not give.
    guard let folder, !name.isEmpty, !name.contains("/"), !name.hasPrefix("."), !name.hasSuffix(".tmp"),
      !name.hasSuffix(".gguf"), name.unicodeScalars.allSatisfy({ $0.value >= 0x20 })
    else { return }
    if let entry = entries[name] { guard entry.origin == .folder else { return } }
    if needsLook(name, folder) == nil { return }
    try? await inTurn { await self.loadFromFolder(name, folder) }
  }

  private enum Look {
    case load(path: String, FileStamp)
    case forget
  }

  private func needsLook(_ name: String, _ folder: String) -> Look? {
    guard let path = Self.path(of: name, in: folder) else { return entries[name] == nil ? nil : .forget }
    let stamp = FileStamp(path)
    if entries[name]?.stamp == stamp || failed[name]?.stamp == stamp { return nil }
    return .load(path: path, stamp)
  }

  private func loadFromFolder(_ name: String, _ folder: String) async {
    // Meanwhile a request may have taken the name.
    if let entry = entries[name], entry.origin != .folder { return }
    switch needsLook(name, folder) {
    case nil: return
    case .forget:
      entries[name] = nil
      failed[name] = nil
      await engine.unload(name)
      logger.notice("no longer serving \(name.shown)")
    case .load(let path, let stamp):
      if name == base {
        failed[name] = (stamp, "it is the base model's name")
        logger.warning("\(path.shown) is not served: its name is the base model's")
        return
      }
      // What was served under the name goes on where its successor cannot be read.
      do { try await load(path, as: name, .folder, stamp) } catch {
        logger.warning("\(path.shown) is not served: \(LadderError(any: error).message)")
      }
    }
  }

  /// The names that a folder may give.
  static func names(in folder: String) throws -> [String] {
    // A temporary name is on its way to another.
    Set(
      try FileManager.default.contentsOfDirectory(atPath: folder)
        .filter { !$0.hasPrefix(".") && !$0.hasSuffix(".tmp") }.map(name(of:))
    ).sorted()
  }

  /// The run or the adapter of a name; nil where there is none that is whole.
  static func path(of name: String, in folder: String) -> String? {
    ["\(folder)/\(name)", "\(folder)/\(name).gguf"].first(where: isRun)
  }

  private static func isRun(_ path: String) -> Bool {
    path.hasSuffix(".gguf")
      ? FileManager.default.fileExists(atPath: path)
      : FileManager.default.fileExists(atPath: path + "/ladder.json")
        && FileStamp.weights(of: path).contains { FileManager.default.fileExists(atPath: $0) }
  }

  /// Of a run's folder, or of a GGUF file.
  static func name(of path: String) -> String {
    let file = ((path as NSString).standardizingPath as NSString).lastPathComponent
    return file.hasSuffix(".gguf") ? String(file.dropLast(5)) : file
  }
}
