import LadderBackbone
import TestModels
import Testing

@Suite(.serialized) struct SamplerTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  /// What the prompt said counts as said; a temperature that is next to none is none.
  @Test func penaltiesSeeThePrompt() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 1, device: "CPU")
    var logits = [Float](repeating: 0, count: backbone.tokenizer.count)
    (logits[40], logits[41]) = (2, 1.5)
    func choice(_ prompt: [Int32], _ change: (inout SamplingOptions) -> Void) throws -> Int32 {
      var options = SamplingOptions()
      options.temperature = 0
      change(&options)
      let sampler = try Sampler(options, backbone.tokenizer)
      sampler.take(prompt: prompt)
      return try logits.withUnsafeBufferPointer { try sampler.sample($0) }
    }
    #expect(try choice([40]) { _ in } == 40)
    #expect(try choice([]) { $0.repeatPenalty = 2 } == 40)
    #expect(try choice([40]) { $0.repeatPenalty = 2 } == 41)
    #expect(try choice([40]) { $0.presencePenalty = 1 } == 41)
    #expect(try choice([40, 9, 9]) { ($0.repeatPenalty, $0.penaltyWindow) = (2, 2) } == 40)
    #expect(try choice([]) { $0.temperature = .leastNonzeroMagnitude } == 40)
  }
}
