import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import TestModels
import Testing

@Suite(.serialized) struct LoadingTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func error(_ path: String) -> LadderError? {
    do {
      _ = try Backbone(path: path, threads: 1, device: "CPU")
      return nil
    } catch { return error }
  }

  @Test func missingFile() { #expect(error(folder.file("none.gguf"))?.kind == .missing) }

  @Test func foreignFile() throws {
    let refused = error(try folder.write("text.gguf", "hello, world"))
    #expect(refused?.kind == .data)
    #expect(refused?.message.contains("not a GGUF") == true)
  }

  @Test(arguments: [6, 40, 2000, 20000]) func truncatedFile(_ bytes: Int) throws {
    let whole = try Data(contentsOf: URL(fileURLWithPath: try folder.model()))
    let path = folder.file("cut.gguf")
    try whole.prefix(bytes).write(to: URL(fileURLWithPath: path))
    #expect(error(path)?.kind == .data)
  }

  @Test func lostLastByte() throws {
    let path = try folder.model()
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    try whole.dropLast(64).write(to: URL(fileURLWithPath: path))
    #expect(error(path)?.message.contains("cut short") == true)
  }

  @Test func encoder() throws {
    let refused = error(try folder.model { $0.architecture = .bert })
    #expect(refused?.kind == .data)
    #expect(refused?.message.contains("encoder") == true)
  }

  @Test func unknownDevice() throws {
    let path = try folder.model()
    #expect(throws: LadderError.self) { try Backbone(path: path, device: "NoSuch0") }
  }

  @Test func fingerprintsTellModelsApart() throws {
    let one = try GGUFFile(path: try folder.model("a.gguf")).fingerprint(),
      same = try GGUFFile(path: try folder.model("b.gguf")).fingerprint()
    let other = try GGUFFile(path: try folder.model("c.gguf") { $0.seed = 2 }).fingerprint()
    #expect(one == same)
    #expect(one != other)
  }

  @Test func tokensComeBackAsText() throws {
    let tokenizer = try Backbone(path: try folder.model(), threads: 1, device: "CPU").tokenizer
    let text = "naïve — 日本語\n42"
    #expect(tokenizer.text(tokenizer.tokens(text)) == text)
    #expect(tokenizer.tokens(text, beginning: true).first == tokenizer.beginning)
  }

  /// The regular expressions by which llama.cpp splits text call themselves once a character.
  @Test(arguments: ["deepseek-llm", "falcon", "gpt-2", "qwen35"], ["a", "7", " ", "\n", "é", "."])
  func aLongRunOfOneCharacterIsTokenised(_ rules: String, _ character: String) async throws {
    let path = try folder.model { $0.pairRules = rules }
    let tokenizer = try Backbone(path: path, threads: 1, device: "CPU").tokenizer
    let text = String(repeating: character, count: 40_000) + "ab"
    // On a thread of the pool, whose stack is small.
    let tokens = await Task.detached { tokenizer.tokens(text) }.value
    #expect(tokenizer.text(tokens) == text)
    #expect(tokens.last == 256)
  }

  @Test func chatTemplateRenders() throws {
    let path = try folder.model {
      $0.chatTemplate =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    }
    let text = try Backbone(path: path, threads: 1, device: "CPU").chatTemplate().render(
      Conversation([ChatMessage(role: "user", content: "hi")]), opensAnswer: true)
    #expect(text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
  }
}
