import Foundation
import LadderBackbone
import LadderMethods
import TestModels
import Testing

/// What PEFT is told that an adapter belongs to.
@Suite struct BaseModelNameTests {
  let folder: TemporaryFolder
  let path: String

  init() throws {
    folder = try TemporaryFolder()
    path = folder.file("model.gguf")
  }

  private func name(_ keys: [String: String]) throws -> String {
    var file = GGUFBytes.sample
    file.keys += keys.map { ($0.key, GGUFBytes.string($0.value)) }
    try Data(file.contents).write(to: URL(fileURLWithPath: path))
    return BaseModelName.of(try GGUFFile(path: path))
  }

  private let base = "general.base_model.0.repo_url"

  @Test func theHubsNameIsTakenFromTheMetadata() throws {
    #expect(try name([base: "https://huggingface.co/google/gemma-3-270m"]) == "google/gemma-3-270m")
    #expect(try name(["general.source.repo_url": "https://hf.co/a/b/tree/main", base: "c/d"]) == "a/b")
    #expect(try name(["general.source.huggingface.repository": "a/b.c-1_2"]) == "a/b.c-1_2")
    #expect(try name(["general.repo_url": "https://huggingface.co/a/b-GGUF", base: "c/d"]) == "c/d")
  }

  @Test func otherwiseTheFileItselfIsNamed() throws {
    let path = URL(fileURLWithPath: path).standardizedFileURL.path
    #expect(try name([:]) == path)
    for other in ["https://github.com/a/b", "https://huggingface.co/a", "name", "a/b/c", "../b", "a b/c", "/a/b", ""] {
      #expect(try name([base: other]) == path, "\(other)")
    }
  }

  /// A tuned model's metadata name the model that it was tuned from, which the adapter does not belong to.
  @Test func theModelThatATunedOneCameFromIsAnother() throws {
    let parent = [base: "https://huggingface.co/Qwen/Qwen2.5-0.5B", "general.finetune": "Instruct"]
    #expect(try name(parent) == URL(fileURLWithPath: path).standardizedFileURL.path)
    let own = [base: "https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct", "general.finetune": "Instruct"]
    #expect(try name(own) == "Qwen/Qwen2.5-0.5B-Instruct")
  }
}
