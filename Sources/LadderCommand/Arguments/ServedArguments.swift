import ArgumentParser
import Foundation
import Ladder
import LadderServe

/// What is served, and how much is set aside for it.
struct ServedArguments: ParsableArguments {
  private static let usualTexts = 16

  @Option(
    help: ArgumentHelp("A folder of runs; GGUF adapters may lie there too.", valueName: "folder"),
    completion: .directory)
  var ladders: String?
  @Option(
    help: ArgumentHelp("A run's folder, or a GGUF adapter. Several times for several.", valueName: "run"),
    completion: .file())
  var adapter: [String] = []
  @Option(
    help: ArgumentHelp(
      "Tokens that are set aside for all texts (default: what the model was trained on, 8192 at most).",
      valueName: "N"))
  var context: Int?
  @Option(help: ArgumentHelp("Texts at once; others wait.", valueName: "N")) var texts = Self.usualTexts

  var isGiven: Bool { ladders != nil || !adapter.isEmpty || context != nil || texts != Self.usualTexts }

  /// Settings with these in them.
  func settings() throws -> ServerSettings {
    func require(_ holds: Bool, _ text: String) throws { if !holds { throw LadderError(.usage, text) } }
    try require((1...64).contains(texts), "--texts must be 1 to 64")
    if let context { try require((16...1 << 24).contains(context), "--context must be 16 to \(1 << 24)") }
    if let ladders {
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: ladders, isDirectory: &isFolder), isFolder.boolValue else {
        throw LadderError(.missing, "--ladders: there is no folder \(ladders.shown)")
      }
    }
    var settings = ServerSettings()
    settings.folder = ladders
    settings.adapters = adapter
    settings.generation.tokens = context
    settings.generation.texts = texts
    return settings
  }
}
