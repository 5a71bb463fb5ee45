import Foundation
import LadderBackbone
import TestModels
import Testing

/// What the command does with a model's files: several of them, and others than a run was trained on.
@Suite(.serialized) struct ModelFilesTests {
  let folder: TemporaryFolder
  let data: String

  init() throws {
    folder = try TemporaryFolder()
    data = try folder.write("train.jsonl", BadInputTests.lines(12))
  }

  private func train(_ model: String, _ out: String, _ more: [String] = []) throws -> Command.Result {
    try Command.run(
      [
        "train", "--model", model, "--data", data, "--out", folder.file(out), "--device", "CPU", "--batch-size", "4",
        "--steps", "2",
      ] + more, in: folder)
  }

  private func evaluate(_ model: String, _ run: String) throws -> Command.Result {
    let arguments = ["eval", "--model", model, "--adapter", folder.file(run), "--data", data, "--device", "CPU"]
    return try Command.run(arguments, in: folder)
  }

  /// A run on a model in three files ends with the same bytes as one on the whole, from whichever file.
  @Test(arguments: [["--init", "backbone", "--reduction", "4"], ["--method", "qlora", "--rank", "4"]])
  func trainingOnAModelInSeveralFiles(_ method: [String]) throws {
    let whole = try folder.model("whole.gguf") { $0.architecture = .llama }
    let paths = try SplitModelFiles.write(whole, [0, 20, 19], to: folder.file("model"))
    #expect(try train(whole, "whole", method).status == 0)
    for (index, path) in paths.enumerated() {
      let result = try train(path, "split-\(index)", method)
      #expect(result.status == 0, "\(result.errors)")
      #expect(try folder.weights("split-\(index)") == folder.weights("whole"))
    }
    // A run belongs to the model, not to its files.
    for model in [whole, paths[2]] {
      let result = try evaluate(model, "split-0")
      #expect(result.status == 0, "\(result.errors)")
    }
  }

  @Test func planAndInspectReadAllFiles() throws {
    let whole = try folder.model("whole.gguf")
    let paths = try SplitModelFiles.write(whole, [10, 41], to: folder.file("model"))
    func plan(_ model: String) throws -> String {
      try Command.run(["plan", "--model", model, "--no-time", "--json"], in: folder).output
    }
    let wanted = try plan(whole)
    #expect(wanted.contains("rows"))
    for path in paths {
      #expect(try plan(path) == wanted)
      let shown = try Command.run(["inspect", path, "--tensors"], in: folder)
      #expect(shown.output.contains(try GGUFFile(path: whole).fingerprint().text))
      #expect(shown.output.contains("in 2 files") && shown.output.contains("blk.3.ffn_down.weight"), "\(shown.output)")
    }
    try FileManager.default.removeItem(atPath: paths[1])
    for arguments in [["plan", "--model", paths[0]], ["inspect", paths[0]]] {
      let result = try Command.run(arguments, in: folder)
      #expect(result.status == 66 && result.lastError.contains(paths[1]), "\(result.errors)")
    }
  }

  @Test func whatDiffersFromTheModelOfARunIsNamed() throws {
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    let model = try folder.model { $0.chatTemplate = template }
    #expect(try train(model, "run").status == 0)
    func refusal(_ words: String, _ change: (inout TinyModel) -> Void) throws {
      let other = try folder.model("other.gguf") {
        $0.chatTemplate = template
        change(&$0)
      }
      for result in [try evaluate(other, "run"), try train(other, "run", ["--resume"])] {
        #expect(result.status == 65 && result.lastError.contains(words), "\(result.errors)")
      }
    }
    try refusal(": its chat template differs;") { $0.chatTemplate = template + " " }
    try refusal(": its weights differ;") { $0.seed = 2 }
    try refusal(": its weights and chat template differ;") {
      $0.seed = 2
      $0.chatTemplate = nil
    }
    try refusal(": its tokenizer differs;") { $0.texts["tokenizer.ggml.pre"] = "default" }
    let renamed = try folder.model("renamed.gguf") {
      $0.chatTemplate = template
      $0.texts["general.url"] = "https://example.com"
    }
    let result = try evaluate(renamed, "run")
    #expect(result.status == 0, "\(result.errors)")
  }

  @Test func peftsBaseModelCanBeSet() throws {
    let model = try folder.model { $0.texts["general.base_model.0.repo_url"] = "https://huggingface.co/owner/name" }
    func base(_ run: String) throws -> String? {
      let json = try Data(contentsOf: URL(fileURLWithPath: folder.file(run + "/adapter_config.json")))
      return (try JSONSerialization.jsonObject(with: json) as? [String: Any])?["base_model_name_or_path"] as? String
    }
    let qlora = ["--method", "qlora", "--rank", "2"]
    #expect(try train(model, "named", qlora).status == 0)
    #expect(try base("named") == "owner/name")
    let config = try folder.write("base.yaml", "base-model: other/model\n")
    #expect(try train(model, "set", qlora + ["--config", config]).status == 0)
    #expect(try base("set") == "other/model")
    // Another name is no other training: the run goes on.
    let more = try train(model, "set", qlora + ["--base-model", "third/model", "--resume"])
    #expect(more.status == 0, "\(more.errors)")
    let wrong = try train(model, "wrong", ["--base-model", "a/b"])
    #expect(wrong.status == 64 && wrong.lastError.contains("--base-model goes with --method qlora"), "\(wrong.errors)")
  }
}
