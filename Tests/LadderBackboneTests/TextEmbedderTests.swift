import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderData
import TestModels
import Testing

/// Against the vectors that llama.cpp pools itself.
@Suite struct TextEmbedderTests {
  @Test(arguments: [1, 2, 3]) func aVectorIsWhatTheEnginePools(pooling: Int) throws {
    let folder = try TemporaryFolder()
    let backbone = try Backbone(
      path: try folder.model { model in
        model.type = GGML_TYPE_F32
        model.pooling = pooling
      }, threads: 1, device: "CPU", head: nil, embeds: true)
    let embedder = try #require(try TextEmbedder.make(backbone, maxTokens: 64))
    for text in ["a few words", "b", "more words than before"] {
      let tokens = backbone.tokenizer.tokens(text, beginning: true), pooled = try pooled(tokens, backbone)
      let length = pooled.reduce(0) { $0 + $1 * $1 }.squareRoot()
      // Attention sums in F16.
      for (own, expected) in zip(try embedder.vector(tokens), pooled) { #expect(abs(own - expected / length) < 2e-3) }
    }
    #expect(throws: (any Error).self) { try embedder.vector([]) }
    #expect(throws: (any Error).self) { try embedder.vector([Int32](repeating: 5, count: 65)) }
  }

  private func pooled(_ tokens: [Int32], _ backbone: Backbone) throws -> [Float] {
    var parameters = llama_context_default_params()
    parameters.n_ctx = 256
    parameters.embeddings = true
    let context = try #require(llama_init_from_model(try backbone.enginePointer(), parameters))
    defer { llama_free(context) }
    var tokens = tokens
    #expect(llama_decode(context, llama_batch_get_one(&tokens, Int32(tokens.count))) == 0)
    return Array(UnsafeBufferPointer(start: try #require(llama_get_embeddings_seq(context, 0)), count: backbone.width))
  }

  @Test func aModelThatContinuesTextsGivesNone() throws {
    let folder = try TemporaryFolder()
    let backbone = try Backbone(path: try folder.model(), threads: 1, device: "CPU")
    #expect(try TextEmbedder.make(backbone, maxTokens: 64) == nil)
  }
}
