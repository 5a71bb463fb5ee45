import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import TestModels
import Testing

@testable import LadderMethods

/// What families differ in.
@Suite(.serialized) struct LoRAFamilyTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  /// A head that is read from the file alone is the one that llama.cpp's graph has.
  @Test(arguments: Fixture.families) func headIsKnownWithoutTheModel(_ family: String) throws {
    let path = try folder.f32(family)
    let expected = try Backbone(path: path, threads: 2, device: "CPU").head.description
    #expect(try HeadDescription(of: GGUFFile(path: path)) == expected)
  }

  @Test func fusedMatricesHaveOneAddition() throws {
    let f = try Fixture(try folder.f32("phi3")) { $0.targets = [.up, .k, .q] }
    #expect(
      f.model.names(ofBlock: 1) == ["ffn_up", "attn_qkv"].flatMap { ["blk.1.\($0).lora_a", "blk.1.\($0).lora_b"] })
    try AdapterFiles(f.model).write(to: folder.path, modelName: "tiny")
    let file = try Safetensors(path: folder.file(AdapterFiles.peftWeights))
    let qkv = try #require(file.tensors["base_model.model.model.layers.1.self_attn.qkv_proj.lora_B.weight"])
    #expect(try qkv.values() == f.model.parameters["blk.1.attn_qkv.lora_b"].read())
  }

  @Test func expertsStayAsTheyAre() throws {
    let path = try folder.f32("qwen3moe")
    #expect(try Fixture(path).model.names(ofBlock: 0).allSatisfy { $0.contains("attn_") })
    #expect {
      try Fixture(path) { $0.targets = [.gate, .down] }
    } throws: { error in
      let error = error as? LadderError
      return error?.kind == .usage && error?.message.contains("`targets`") ?? false
    }
  }

  /// phi3's other positions, beyond the context that it was first trained in.
  @Test func positionsThatAreNotKnownAreRefused() throws {
    var model = try #require(Architectures.named("phi3"))
    model.lacks = [".bias"]
    model.keys["rope.scaling.original_context_length"] = 256
    model.keys["rope.scaling.attn_factor"] = 1.19
    try model.write(folder.file("long.gguf"))
    let f = try Fixture(folder.file("long.gguf"), zero: true)
    #expect(
      Fixture.worst(try f.logits(Fixture.samples), try Fixture.reference(f.backbone, Fixture.samples, tokens: 64))
        < 1e-3)
    #expect { try LoRAModel(LoRAConfiguration(), f.backbone, maxTokens: 257) } throws: { error in
      (error as? LadderError)?.message.contains("256") ?? false
    }
  }
}
