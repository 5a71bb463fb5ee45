import ArgumentParser
import Foundation
import Ladder

struct Inspect: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what is in a GGUF file, a run or an activation cache, without loading a model.")

  @Argument(
    help: ArgumentHelp(
      "A GGUF file, one at the hub (hf:OWNER/REPO), a run's folder or a cache's.", valueName: "file|run|cache"),
    completion: .file())
  var path: String?
  @Flag(help: "List every tensor.") var tensors = false
  @Flag(help: "Show the whole chat template, not only how it renders a conversation.") var template = false
  @Flag(help: "List the devices that this build can run on.") var devices = false

  func run() async throws {
    if devices {
      for device in Device.all {
        Terminal.output("\(device.name)\t\(device.description)\t\(Terminal.bytes(device.memory))")
      }
      if path == nil { return }
    }
    guard let path = try await ModelName.path(path) else {
      throw LadderError(.usage, "name a GGUF file or a run's folder, or pass --devices")
    }
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw LadderError(.missing, "no file or run at \(path)")
    }
    guard isFolder.boolValue else { return try show(GGUFFile(path: path)) }
    let caches = CacheFolder.summaries(in: path)
    if caches.isEmpty { return try show(RunDirectory(path)) }
    for cache in caches {
      let description = cache.description
      table([
        ("cache", cache.path), ("backbone", "\(description.backbone) (fingerprint \(description.fingerprint))"),
        ("taps", "\(description.rungs.map(String.init).joined(separator: ", ")) in \(description.format.rawValue)"),
        ("samples", String(cache.entries)), ("tokens", Terminal.count(cache.tokens)),
        ("size", Terminal.bytes(cache.bytes)),
      ])
    }
  }

  private func show(_ run: RunDirectory) throws {
    let manifest = try run.manifest()
    var rows: [(String, String)] = [
      ("method", manifest.method),
      (
        "backbone",
        "\(manifest.backbone.name) (\(manifest.backbone.architecture), fingerprint \(manifest.backbone.fingerprint))"
      ),
      ("data", manifest.identity?.name ?? "not known"), ("validation", manifest.identity?.validationName ?? "none"),
      try manifest.configuration.method.described(
        on: ModelOutline(blocks: manifest.backbone.blocks, width: manifest.backbone.width)),
      ("parameters", Terminal.count(manifest.parameters)),
      ("finished", manifest.finished ? "yes" : "no; go on with ladder train --resume"),
      ("weights of step", String(manifest.step)),
    ]
    if let loss = manifest.validationLoss { rows.append(("validation loss", String(format: "%.4f", loss))) }
    let configuration = manifest.configuration
    rows += [
      (
        "learning rate",
        "\(configuration.learningRate) (\(configuration.schedule.rawValue), warm-up \(configuration.warmup))"
      ),
      ("batch size", String(configuration.batchSize)),
      ("epochs", configuration.steps.map { "\($0) steps" } ?? String(configuration.epochs)),
      ("max length", String(configuration.maxLength)),
      ("seed", String(configuration.seed)),
    ]
    if configuration.head == .cached { rows.append(("head", "cached")) }
    if !configuration.filtersGradient { rows.append(("head's gradient", "exact")) }
    table(rows)
  }

  private func show(_ file: GGUFFile) throws {
    let parameters = file.tensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    table([
      (
        "format",
        "GGUF version \(file.version), \(Terminal.bytes(file.bytes))"
          + (file.parts.count > 1 ? " in \(file.parts.count) files" : "")
      ),
      ("fingerprint", try file.fingerprint().text),
      ("tensors", "\(file.tensors.count), \(Terminal.count(parameters)) numbers"),
    ])
    let types = Dictionary(grouping: file.tensors, by: \.type).mapValues { $0.reduce(0) { $0 + $1.bytes } }.sorted {
      $0.value > $1.value
    }
    table([("types", types.map { "\($0.key) \(Terminal.bytes($0.value))" }.joined(separator: ", "))])
    table(file.metadata.keys.sorted().compactMap { key in file.metadata[key].map { (key, abridged($0.description)) } })
    showTemplate(file)
    if tensors {
      for tensor in file.tensors {
        Terminal.output("\(tensor.name)\t\(tensor.type)\t[\(tensor.shape.map(String.init).joined(separator: ", "))]")
      }
    }
  }

  /// The chat template, by what it makes of a conversation.
  private func showTemplate(_ file: GGUFFile) {
    guard file.metadata["tokenizer.chat_template"] != nil else { return }
    do {
      let chat = try ModelVocabulary(path: file.path).chatTemplate()
      if template {
        Terminal.output("\nchat template:\n" + chat.source)
        if let tools = chat.toolSource { Terminal.output("\nchat template with tools:\n" + tools) }
      }
      let turns = [("user", "Is it cold?"), ("assistant", "It is."), ("user", "And there?")]
      let conversation = Conversation(turns.map { ChatMessage(role: $0, content: $1) })
      Terminal.output("\na conversation, up to where the assistant answers:")
      Terminal.output(try chat.render(conversation, opensAnswer: true))
    } catch {
      Terminal.output(
        "\nthe chat template renders no conversation: " + FlagNames.flags(in: LadderError(any: error).message))
    }
  }

  private func abridged(_ text: String) -> String {
    let line = text.replacingOccurrences(of: "\n", with: "\\n")
    return line.count > 100 ? line.prefix(97) + "…" : line
  }

  private func table(_ rows: [(String, String)]) {
    let width = min(44, rows.map(\.0.count).max() ?? 0)
    for (name, value) in rows {
      Terminal.output(name.padding(toLength: max(width, name.count), withPad: " ", startingAt: 0) + "  " + value)
    }
  }
}
