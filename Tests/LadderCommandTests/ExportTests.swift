import Foundation
import TestModels
import Testing

/// Folders to publish, through the real command.
@Suite(.serialized) struct ExportTests {
  let folder: TemporaryFolder
  let model: String
  let data: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model("base.gguf") {
      $0.architecture = .llama
      $0.texts = ["general.license": "apache-2.0"]
    }
    data = try folder.write("train.jsonl", BadInputTests.lines(12))
  }

  private func train(_ out: String, _ more: [String] = []) throws -> String {
    let result = try Command.run(
      [
        "train", "--model", model, "--data", data, "--out", folder.file(out), "--device", "CPU", "--batch-size", "4",
        "--steps", "4",
      ] + more, in: folder)
    #expect(result.status == 0, "\(result.errors)")
    return folder.file(out)
  }

  private func export(_ run: String, _ out: String, _ more: [String] = []) throws -> Command.Result {
    try Command.run(["export", run, "--out", folder.file(out)] + more, in: folder)
  }

  private func names(_ out: String) -> Set<String> {
    Set((try? FileManager.default.contentsOfDirectory(atPath: folder.file(out))) ?? [])
  }

  private func text(_ name: String) throws -> String { try String(contentsOfFile: folder.file(name), encoding: .utf8) }

  private func evaluate(_ model: String, _ adapter: String? = nil) throws -> Double {
    let result = try Command.run(
      ["eval", "--model", model, "--data", data, "--metric", "loss", "--json", "--device", "CPU"]
        + (adapter.map { ["--adapter", $0] } ?? []), in: folder)
    #expect(result.status == 0, "\(result.errors)")
    return result.json["loss"] as? Double ?? .nan
  }

  @Test func aSideNetworksFolderIsARun() throws {
    let run = try train("run", ["--valid", data])
    let result = try export(run, "ladder-of-mine", ["--base-model", "owner/base", "--license", "mit"])
    #expect(result.status == 0 && result.output == folder.file("ladder-of-mine") + "\n", "\(result.errors)")
    #expect(names("ladder-of-mine") == ["README.md", "ladder.json", "ladder.safetensors", "metrics.jsonl"])
    #expect(try evaluate(model, folder.file("ladder-of-mine")) == evaluate(model, run))
    let card = try text("ladder-of-mine/README.md")
    #expect(card.hasPrefix("---\nlicense: mit\nbase_model: owner/base\n"))
    for words in [
      "# ladder-of-mine", "| steps | 4 |", "train.jsonl", "validation loss", "learning rate",
      "ladder generate --model", "ladder-side-tuning",
    ] { #expect(card.contains(words), "\(words) in \(card)") }
    // Nothing tells where this machine keeps its files.
    for name in names("ladder-of-mine") where !name.hasSuffix("safetensors") {
      let contents = try text("ladder-of-mine/" + name)
      #expect(!contents.contains(folder.path), "\(name)")
    }
    let again = try export(run, "ladder-of-mine")
    #expect(again.status == 64 && again.lastError.contains("--out"), "\(again.errors)")
    // A folder that is there and empty may be a link, or the one at hand; what a killed export left is removed.
    try FileManager.default.createDirectory(atPath: folder.file("place"), withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(atPath: folder.file("link"), withDestinationPath: folder.file("place"))
    let gone = Process()
    gone.executableURL = URL(fileURLWithPath: "/usr/bin/true")
    try gone.run()
    gone.waitUntilExit()
    _ = try folder.write("place/left.txt", "")
    try FileManager.default.moveItem(
      atPath: folder.file("place/left.txt"), toPath: folder.file("place/export.\(gone.processIdentifier).tmp"))
    let linked = try export(run, "link")
    #expect(linked.status == 0 && names("place") == names("ladder-of-mine"), "\(linked.errors)")
    #expect(try evaluate(model, folder.file("link")) == evaluate(model, run))
    let merged = try export(run, "other", ["--merge", "--model", model])
    #expect(merged.status == 64 && merged.lastError.contains("--method qlora"), "\(merged.errors)")
    #expect(names("").allSatisfy { !$0.contains("other") }, "nothing is left of what failed")
  }

  /// Of samples with choices the card tells what is asked of them.
  @Test func aCardTellsOfTheChoices() throws {
    let lines = (0..<6).map {
      "{\"prompt\": \"\($0) is\", \"completion\": \" even\", \"choices\": [\" even\", \" odd\"]}\n"
    }
    let labels = try folder.write("labels.jsonl", lines.joined())
    _ = try export(try train("plain"), "labels", ["--model", model, "--data", labels, "--device", "CPU"])
    let card = try text("labels/README.md")
    #expect(card.contains("loss among the choices of 6 samples of labels.jsonl") && card.contains("right choices: "))
  }

  @Test func aLoRARunIsMergedIntoTheModel() throws {
    let run = try train("qlora", ["--method", "qlora", "--rank", "4", "--learning-rate", "1e-2"])
    let result = try export(run, "merged", ["--merge", "--model", model, "--data", data, "--device", "CPU", "--json"])
    #expect(result.status == 0, "\(result.errors)")
    #expect(
      names("merged") == [
        "README.md", "ladder.json", "ladder.safetensors", "metrics.jsonl", "adapter.gguf", "adapter_config.json",
        "adapter_model.safetensors", "merged-Q8_0.gguf",
      ])
    let path = folder.file("merged/merged-Q8_0.gguf")
    let applied = try evaluate(model, run), alone = try evaluate(model), own = try evaluate(path)
    #expect(result.json["merged"] as? String == path)
    #expect(abs(own - applied) < 0.1 * abs(alone - applied), "\(own), with the adapter \(applied), without \(alone)")
    #expect(abs((result.json["merged_loss"] as? Double ?? 0) - own) < 1e-3)
    #expect(abs((result.json["adapter_loss"] as? Double ?? 0) - applied) < 1e-3)
    let card = try text("merged/README.md")
    #expect(card.contains("loss on 12 samples of train.jsonl"))
    #expect(card.contains("license: apache-2.0") && card.contains("llama-cli -m merged-Q8_0.gguf"))
    let configuration = try text("merged/adapter_config.json")
    #expect(!card.contains(folder.path) && !configuration.contains(folder.path))
    #expect(result.errors.contains("--base-model"), "the base model's name is asked for: \(result.errors)")
    // Sharper types are nearer.
    let sharp = try export(run, "sharp", ["--merge", "--model", model, "--type", "f16", "--name", "tuned"])
    #expect(sharp.status == 0 && sharp.output.hasSuffix("sharp/tuned-F16.gguf\n"), "\(sharp.errors)")
    #expect(abs(try evaluate(folder.file("sharp/tuned-F16.gguf")) - applied) < 0.02 * abs(alone - applied))
    #expect(try evaluate(model, folder.file("merged")) == applied)
    // A model in several files is one then.
    let parts = try SplitModelFiles.write(model, [10, 29], to: folder.file("split"))
    #expect(try export(run, "from-split/", ["--merge", "--model", parts[1]]).status == 0)
    #expect(try evaluate(folder.file("from-split/from-split-Q8_0.gguf")) == own)
  }

  @Test func refusalsAreOneLine() throws {
    let run = try train("qlora", ["--method", "qlora", "--rank", "2"])
    let other = try folder.model("other.gguf") {
      $0.architecture = .llama
      $0.seed = 4
    }
    for (arguments, status, words) in [
      ([run, "--merge"], 64, "--model"), ([run, "--type", "F16"], 64, "--merge"),
      ([run, "--data", data], 64, "--model"),
      ([run, "--merge", "--model", other], 65, "weights differ"), ([run, "--base-model", "here"], 64, "--base-model"),
      ([run, "--merge", "--model", model, "--type", "Q99"], 64, "--type"), ([folder.file("none")], 66, "none"),
      ([run, "--merge", "--model", model, "--type", "Q4_K"], 64, "Q8_0"), ([run, "--name", "a/b"], 64, "--name"),
    ] as [([String], Int32, String)] {
      let result = try Command.run(["export"] + arguments + ["--out", folder.file("refused")], in: folder)
      #expect(result.status == status && result.lastError.contains(words), "\(arguments): \(result.errors)")
      #expect(names("").allSatisfy { !$0.contains("refused") })
    }
  }
}
