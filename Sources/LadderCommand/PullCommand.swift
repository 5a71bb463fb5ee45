import ArgumentParser
import Foundation
import Ladder
import LadderHub

struct Pull: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Fetch a model or a data set from the Hugging Face hub.",
    discussion: """
        ladder pull hf:OWNER/REPO              the model's Q4_K_M, else Q8_0, else its first GGUF
        ladder pull hf:OWNER/REPO:Q8_0         another of its quantisations, or a file by its name
        ladder pull hf:datasets/OWNER/NAME     a data set's rows, as JSON Lines
        ladder pull hf:datasets/OWNER/NAME/CONFIG:SPLIT --out train.jsonl

      A model goes into the hub's own cache, where llama.cpp and huggingface_hub find it and whose files are found here;
      every command takes such a name for --model. What breaks off goes on with the same command, and every file's
      checksum is compared.

      A data set's nested values stay as they are; columns of images and sounds are left out, and named.

      The environment is the hub's: HF_TOKEN, HF_TOKEN_PATH, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT (a mirror),
      HF_DATASETS_SERVER (one for data sets), HF_HUB_OFFLINE, and https_proxy.
      """)

  @Argument(help: ArgumentHelp("What to fetch.", valueName: "hf:OWNER/NAME[:choice]")) var name: String
  @Option(
    help: ArgumentHelp("A data set's file (default: NAME.SPLIT.jsonl in this folder).", valueName: "file.jsonl"),
    completion: .file(extensions: ["jsonl"]))
  var out: String?
  @Option(help: ArgumentHelp("Take only the first N rows of a data set.", valueName: "N")) var limit: Int?
  @Flag(help: "Print one JSON object.") var json = false

  func run() async throws {
    let named = try HubName(name)
    if let limit, limit < 1 { throw LadderError(.usage, "--limit must be 1 or more") }
    let hub = Hub(try HubEnvironment(), report: HubView.show)
    if case .dataset = named { return try await rows(named, from: hub) }
    guard out == nil, limit == nil else {
      throw LadderError(.usage, "--out and --limit are for data sets; a model goes into the hub's cache")
    }
    let path = try await interruptible { try await hub.model(named, refreshes: true) }
    Terminal.finishLine()
    Terminal.output(json ? try Terminal.json(["path": path]) : path)
  }

  private func rows(_ named: HubName, from hub: Hub) async throws {
    let out = out, limit = limit
    let rows = try await interruptible { try await hub.rows(of: named, to: out, limit: limit) }
    Terminal.finishLine()
    for note in rows.notes { Terminal.note(note) }
    if json { return Terminal.output(try Terminal.json(Fetched(path: rows.path, rows: rows.rows, notes: rows.notes))) }
    Terminal.note("\(rows.rows) rows")
    Terminal.output(rows.path)
  }

  private struct Fetched: Encodable {
    let path: String
    let rows: Int
    let notes: [String]
  }
}
