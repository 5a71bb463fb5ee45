import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderData
import TestModels
import Testing

/// Against the rows of the final norm that side networks read.
@Suite struct TextEmbedderTests {
  @Test(arguments: [1, 3]) func aVectorIsThePooledRows(pooling: Int) throws {
    let folder = try TemporaryFolder()
    let backbone = try Backbone(
      path: try folder.model { model in
        model.type = GGML_TYPE_F32
        model.pooling = pooling
      }, threads: 1, device: "CPU", head: nil, embeds: true)
    let embedder = try #require(try TextEmbedder.make(backbone, maxTokens: 64))
    let pass = try ForwardPass(backbone, rungs: [], maxTokens: 64), width = backbone.width
    let pool = TensorPool(backbone.engine, tensors: 4)
    for text in ["a few words", "b", "more words than before"] {
      let tokens = backbone.tokenizer.tokens(text, beginning: true)
      try pool.reset()
      let final = try pool.make(.float32, [width, tokens.count])
      try pass.run([PackedSample(tokens: tokens, lossRows: Array(tokens.indices))], taps: [], final: final)
      let rows = final.read()
      let pooled = (0..<width).map { channel in
        pooling == 3
          ? rows[(tokens.count - 1) * width + channel]
          : tokens.indices.reduce(0) { $0 + rows[$1 * width + channel] } / Float(tokens.count)
      }
      let length = pooled.reduce(0) { $0 + $1 * $1 }.squareRoot()
      // Attention sums in F16.
      for (own, expected) in zip(try embedder.vector(tokens), pooled) { #expect(abs(own - expected / length) < 2e-3) }
    }
    #expect(throws: (any Error).self) { try embedder.vector([]) }
  }

  @Test func aModelThatContinuesTextsGivesNone() throws {
    let folder = try TemporaryFolder()
    let backbone = try Backbone(path: try folder.model(), threads: 1, device: "CPU")
    #expect(try TextEmbedder.make(backbone, maxTokens: 64) == nil)
  }
}
