import CLlama
import LadderCompute
import TestModels
import Testing

@testable import LadderBackbone

@Suite(.serialized) struct GraphNameTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func capture(_ name: String) throws -> (HeadCapture, blocks: Int) {
    let path = folder.file("model.gguf")
    try #require(Architectures.named(name)).write(path)
    let backbone = try Backbone(path: path, threads: 2, device: "CPU")
    return (try HeadCapture.look(try backbone.enginePointer(), backbone.engine, path: path), backbone.blocks)
  }

  /// Where the graph names the blocks' outputs, structure alone finds the same ones.
  @Test(
    arguments: [
      "llama", "falcon", "gptneox, parallel", "olmo", "olmo2", "gemma2", "gpt2", "qwen3moe", "deepseek2", "mamba",
      "jamba", "rwkv6", "bloom", "command-r",
    ])
  func structureFindsWhatNamesSay(_ name: String) throws {
    let (capture, blocks) = try capture(name)
    let named = try #require(capture.search.names(blocks: blocks - 1))
    let found = try #require(capture.search.structure(blocks: blocks - 1))
    #expect(named == ("l_out-", 0) && found == named)
  }

  @Test func namesOfAnotherKindAreFound() throws {
    let (capture, blocks) = try capture("plamo2")
    #expect(try #require(capture.search.names(blocks: blocks - 1)) == ("ffn_residual-", 0))
  }

  @Test func viewsOfAnOutputAreNotTheOutput() {
    let names = GraphNames(blockPrefix: "l_out-", blockShift: 0, final: "result_norm")
    #expect(names.block("l_out-12") == 12 && names.block("l_out-12 (view)") == nil && names.block("l_out-") == nil)
    #expect(GraphNames(blockPrefix: "hc_attn_pre-", blockShift: 1, final: "").block("hc_attn_pre-3") == 2)
  }
}
