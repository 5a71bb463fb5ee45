import Foundation
import LadderBackbone
import LadderCore
import LadderMethods

/// A run as a folder to publish: its weights in safetensors (a LoRA run's also as llama.cpp's GGUF and in PEFT's layout),
/// a model card, and where it is asked for the model with the run merged into it.
///
/// The folder is a run: `eval`, `generate` and others take it in place of the one that it was made from. Paths of this
/// machine are left out.
public struct RunExport: Sendable {
  /// What it is called: the card's title, and the merged file's name. Nil is the folder's name.
  public var name: String?
  /// The hub's name of the base model, for the card and for PEFT; nil takes what the run knows.
  public var baseModel: String?
  /// The licence of what is published, by its identifier on the hub: apache-2.0.
  public var license: String?
  /// Add the run to the model's weights, in one GGUF.
  public var merges = false
  /// What merging makes of the changed matrices, by ggml's name; nil keeps each one's type.
  public var type: String?
  /// What the card says was measured besides, one line each.
  public var figures: [String] = []

  /// What was written.
  public struct Result: Sendable {
    /// The folder.
    public var path: String
    /// The merged model's file.
    public var merged: String?
    /// What a user should know.
    public var notes: [String]
  }

  public init() {}

  /// - Parameters:
  ///   - model: the model's file; needed to merge.
  ///   - out: made here; it may be there if it is empty.
  ///   - progress: called with bytes merged, and all.
  /// - Throws: `usage` where the folder is in use, or the run is none that can be merged; `data` where the model is not
  ///   the run's; `missing`, `inputOutput`. Nothing is left of an export that fails.
  public func write(
    _ run: RunDirectory, model: String?, to out: String, threads: Int = 1, progress: (Int, Int) -> Void = { _, _ in }
  ) throws(LadderError) -> Result {
    try LadderError.unify {
      let out = Self.folder(out)
      let isThere = FileManager.default.fileExists(atPath: out), place = Self.place(out)
      let temporary = Self.sweep(place)
      let prepared = try Prepared(self, run, model, out)
      try DurableFile.makeFolder(temporary)
      do {
        let result = try write(prepared, temporary, out, threads, progress)
        DurableFile.syncFolder(temporary)
        if isThere {
          // The manifest makes a run of it, at last.
          let names = try FileManager.default.contentsOfDirectory(atPath: temporary)
          for name in names.filter({ $0 != RunDirectory.manifestName }) + [RunDirectory.manifestName] {
            try DurableFile.move("\(temporary)/\(name)", to: "\(out)/\(name)")
          }
          rmdir(temporary)
        } else {
          try DurableFile.move(temporary, to: out)
        }
        return result
      } catch {
        try? FileManager.default.removeItem(atPath: temporary)
        throw error
      }
    }
  }

  /// What `write` would refuse, before anything that takes long.
  /// - Throws: as `write`.
  public func check(_ run: RunDirectory, model: String?, to out: String) throws(LadderError) {
    try LadderError.unify {
      let out = Self.folder(out)
      Self.sweep(Self.place(out))
      _ = try Prepared(self, run, model, out)
    }
  }

  /// Removes what killed exports left there, and names where this one writes. In a container the killed process's number
  /// is this one's again.
  @discardableResult
  private static func sweep(_ place: String) -> String {
    let temporary = "\(place).\(getpid()).tmp"
    DurableFile.sweep(place)
    try? FileManager.default.removeItem(atPath: temporary)
    return temporary
  }

  /// Where the folder is made: beside its own place, or in it where it is there. That may be a mount, a link, or the
  /// folder at hand, which none can replace.
  private static func place(_ out: String) -> String {
    FileManager.default.fileExists(atPath: out) ? "\(out)/export" : out
  }

  /// Without slashes at its end.
  private static func folder(_ path: String) -> String {
    let end = path.lastIndex { $0 != "/" }
    return end.map { String(path[...$0]) } ?? path
  }

  /// Paths as the names of their files.
  static func fileNames(_ paths: String) -> String {
    paths.components(separatedBy: ", ").map { ($0 as NSString).lastPathComponent }.joined(separator: ", ")
  }

  private func write(
    _ prepared: Prepared, _ folder: String, _ out: String, _ threads: Int, _ progress: (Int, Int) -> Void
  ) throws -> Result {
    var result = Result(path: out, merged: nil, notes: [])
    let parts = prepared.parts, base = prepared.base
    let metrics = try parts.metrics()
    for (name, contents) in try parts.files(baseModel: base) { try DurableFile.write("\(folder)/\(name)", [contents]) }
    for name in parts.copied {
      try DurableFile.write("\(folder)/\(name)", [try DurableFile.read(FileSet.current(name, in: parts.run.path))])
    }
    guard parts.isCurrent else {
      throw LadderError(
        .inputOutput, "\(parts.run.path) took better weights while they were copied; export it once more")
    }
    if let (name, file) = prepared.merged {
      // Of the copy, whatever the training writes meanwhile.
      let model = try MergedModel(file, adapter: try GGUFFile(path: "\(folder)/\(AdapterFiles.gguf)"), type: type)
      try model.write("\(folder)/\(name)", threads: threads, progress: progress)
      result.merged = "\(out)/\(name)"
    }
    if !parts.manifest.finished { result.notes.append("the run has not ended: these are its weights so far") }
    if base == nil {
      result.notes.append("the base model's name at the hub is not known; set `baseModel`, for the card and for PEFT")
    }
    let card = ModelCard(
      title: prepared.title, manifest: parts.manifest, metrics: metrics, baseModel: base,
      license: license ?? prepared.file?.string("general.license"),
      merged: prepared.merged?.name,
      figures: figures)
    try DurableFile.write("\(folder)/README.md", [Data(try card.text().utf8)])
    return result
  }
}

/// What an export is made of, all of it checked.
private struct Prepared {
  let parts: RunParts
  let title: String
  let base: String?
  let file: GGUFFile?
  /// The merged file's name, and the model that it is made from.
  let merged: (name: String, model: GGUFFile)?

  init(_ export: RunExport, _ run: RunDirectory, _ model: String?, _ out: String) throws {
    var isFolder: ObjCBool = false
    let isThere = FileManager.default.fileExists(atPath: out, isDirectory: &isFolder)
    let contents = (try? FileManager.default.contentsOfDirectory(atPath: out)) ?? []
    guard !isThere || (isFolder.boolValue && contents.isEmpty) else {
      throw LadderError(.usage, "\(out) is there already; name a new folder as `out`")
    }
    parts = try RunParts(run)
    file = try model.map { try GGUFFile(path: $0) }
    if let file { try parts.manifest.backbone.require(file, try file.fingerprint(), run: run.path) }
    title = export.name ?? URL(fileURLWithPath: out).standardizedFileURL.lastPathComponent
    guard title.allSatisfy({ $0 != "/" && !$0.isNewline }), !title.isEmpty else {
      throw LadderError(.usage, "`name` is a file's name: without / and line ends")
    }
    if let name = export.baseModel, BaseModelName.hubName(name) != name {
      throw LadderError(.usage, "`baseModel` \(name.shown): write the hub's name, as owner/name")
    }
    base = try export.baseModel ?? parts.baseModel ?? file.flatMap(BaseModelName.hub)
    guard export.merges else {
      merged = nil
      return
    }
    guard parts.isLoRA else {
      throw LadderError(
        .usage,
        "a \(parts.manifest.method) run is a network beside the model, which no model's weights can hold; "
          + "`merge` takes runs of `method` qlora")
    }
    guard let file else { throw LadderError(.usage, "`merge` needs the `model` that the run was trained on") }
    let adapter = try GGUFFile(path: FileSet.current(AdapterFiles.gguf, in: run.path))
    _ = try MergedModel(file, adapter: adapter, type: export.type)
    merged = ("\(title)-\(export.type?.uppercased() ?? file.quantisation).gguf", file)
  }
}

/// What a run's folder holds that is published.
private struct RunParts {
  let run: RunDirectory
  let manifest: RunDirectory.Manifest
  private let stamp: FileStamp

  init(_ run: RunDirectory) throws {
    self.run = run
    stamp = FileStamp(run.path)
    manifest = try run.manifest()
    guard FileManager.default.fileExists(atPath: FileSet.current(RunDirectory.weightsName, in: run.path)) else {
      throw LadderError(.missing, "\(run.path) holds no weights yet; let its training run on with `resume`")
    }
  }

  /// Whether the run holds what it held when this was read: a training that goes on may have put other weights in place.
  var isCurrent: Bool { stamp == FileStamp(run.path) }

  var isLoRA: Bool { if case .lora = manifest.configuration.method { true } else { false } }

  /// Files that go as they are.
  var copied: [String] {
    [RunDirectory.weightsName] + (isLoRA ? [AdapterFiles.gguf, AdapterFiles.peftWeights] : [])
  }

  /// Files without what belongs to this machine alone.
  func files(baseModel: String?) throws -> [(String, Data)] {
    var published = manifest
    published.identity?.name = manifest.identity?.name.map(RunExport.fileNames)
    published.identity?.validationName = manifest.identity?.validationName.map(RunExport.fileNames)
    published.configuration.warmStart = published.configuration.warmStart.map(RunExport.fileNames)
    published.configuration.method = Self.named(published.configuration.method, baseModel)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    var files = [("ladder.json", try encoder.encode(published))]
    if let metrics = try? run.metricsLines() { files.append(("metrics.jsonl", metrics)) }
    if isLoRA { files.append((AdapterFiles.peftConfiguration, try peft(baseModel))) }
    return files
  }

  private static func named(_ method: TuningMethod, _ baseModel: String?) -> TuningMethod {
    guard case .lora(var configuration) = method else { return method }
    configuration.baseModel = configuration.baseModel.flatMap { BaseModelName.hubName($0) == $0 ? $0 : baseModel }
    return .lora(configuration)
  }

  private func peftObject() throws -> [String: Any] {
    let data = try DurableFile.read(FileSet.current(AdapterFiles.peftConfiguration, in: run.path))
    guard let object = try? JSONSerialization.jsonObject(with: data) as? [String: Any] else {
      throw LadderError(.data, "\(run.path)/\(AdapterFiles.peftConfiguration) is not JSON")
    }
    return object
  }

  private func peft(_ baseModel: String?) throws -> Data {
    var object = try peftObject()
    object["base_model_name_or_path"] = baseModel ?? manifest.backbone.name
    return try JSONSerialization.data(
      withJSONObject: object, options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes])
  }

  /// The hub's name of the base model, where the run has it.
  var baseModel: String? {
    get throws {
      guard isLoRA, let name = try peftObject()["base_model_name_or_path"] as? String else { return nil }
      return BaseModelName.hubName(name) == name ? name : nil
    }
  }

  func metrics() throws -> [TrainingStep] {
    FileManager.default.fileExists(atPath: run.metricsPath) ? try run.metrics() : []
  }
}
