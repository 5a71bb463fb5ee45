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

  /// Where the head, or a block, is on another device than what it reads, its input is a copy that ggml names after the
  /// device: the names are those of what was copied.
  @Test func copiesOnAnotherDeviceAreWhatWasCopied() throws {
    #expect(GraphNames.copied("CPU#result_norm#0") == "result_norm" && GraphNames.copied("Vulkan0#a#b#1") == "a#b")
    #expect(GraphNames.copied("result_norm") == nil && GraphNames.copied("leaf#1") == nil)
    let context = try #require(ggml_init(ggml_init_params(mem_size: 1 << 20, mem_buffer: nil, no_alloc: true)))
    defer { ggml_free(context) }
    func leaf(_ name: String, _ columns: Int64, _ rows: Int64) -> UnsafeMutablePointer<ggml_tensor>? {
      let tensor = ggml_new_tensor_2d(context, GGML_TYPE_F32, columns, rows)
      ggml_set_name(tensor, name)
      return tensor
    }
    func node(_ tensor: UnsafeMutablePointer<ggml_tensor>?, _ name: String = "") throws -> UnsafeMutablePointer<
      ggml_tensor
    > {
      let tensor = try #require(tensor)
      if !name.isEmpty { ggml_set_name(tensor, name) }
      return tensor
    }
    // Blocks 0 and 1 on either side of a boundary, the head behind another; block outputs under a name of their own.
    let capture = HeadCapture(width: 8, vocabulary: 32)
    let first = try node(ggml_mul(context, leaf("embeddings", 8, 2), leaf("blk.0.scale.weight", 8, 1)), "handed_on-0")
    let normed = try node(ggml_rms_norm(context, leaf("CUDA0#handed_on-0#0", 8, 2), 1e-5))
    let scaled = try node(ggml_mul(context, normed, leaf("CUDA0#blk.1.attn_norm.weight#0", 8, 1)))
    let last = try node(ggml_mul(context, scaled, leaf("output_norm.weight", 8, 1)), "result_norm")
    let head = try node(ggml_mul_mat(context, leaf("output.weight", 8, 32), leaf("CPU#result_norm#0", 8, 1)), "out")
    for node in [first, normed, scaled, last, head] { capture.see(node) }
    #expect(capture.final == "result_norm" && !capture.finalIsOfWeight && capture.finalRows == 2)
    #expect(try #require(capture.search.structure(blocks: 1)) == ("handed_on-", 0))
  }
}
