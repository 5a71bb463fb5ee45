import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
@testable import LadderTrain
import TestModels
import Testing

/// Two answers that go through the model with their prompt once give what they give one by one.
@Suite(.serialized) struct SharedPromptTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  static let cases = [("qwen2", 30), ("qwen2", 150), ("gemma3", 30), ("gemma3", 150), ("llama", 64)]

  private func backbone(_ architecture: String) throws -> Backbone {
    let path = try folder.model("\(architecture).gguf") {
      $0.type = GGML_TYPE_F32
      $0.architecture = TinyModel.Architecture(rawValue: architecture) ?? .qwen2
    }
    return try Backbone(path: path, threads: 2, device: testDevice)
  }

  /// Pairs with a prompt of so many tokens, and a sample that is no pair's.
  private func pairs(_ prompt: Int) -> [[EncodedSample]] {
    var random = SeededRandom(seed: 8)
    func tokens(_ count: Int) -> [Int32] { (0..<count).map { _ in Int32(3 + random.next() % 250) } }
    return [(5, 40), (33, 9), (1, 1)].map { chosen, rejected in
      let shared = tokens(prompt)
      return [chosen, rejected].compactMap { count in
        EncodedSample(sequence: shared + tokens(count), learned: (0..<(prompt + count)).map { $0 >= prompt })
      }
    }
  }

  @Test(arguments: cases, [0, 1, 2]) func rowsAndGradientsAgree(_ model: (name: String, prompt: Int), _ method: Int)
    throws
  {
    let backbone = try backbone(model.name)
    var side = SideConfiguration(), lora = LoRAConfiguration()
    side.rungs = .list([1, 3])
    side.reduction = 2
    side.headSize = 16
    side.tapDropout = 0
    side.precision = .float32
    side.passes = method == 1 ? 2 : 1
    lora.rank = 4
    lora.rounds = false
    var settings = TrainingConfiguration()
    settings.method = method == 2 ? .lora(lora) : .ladder(side)
    let session = try TrainingSession(backbone, settings, maxTokens: 2 * model.prompt + 96), learner = session.learner
    let examples = pairs(model.prompt)
    try session.initialise(examples.flatMap { $0 })
    // Away from the start, where nothing is added yet.
    var random = SeededRandom(seed: 9)
    for group in learner.parameters.groups {
      group.values.write(group.values.read().map { $0 + 0.05 * random.normal() })
    }
    let one = examples.flatMap { $0.map(\.packed) }
    let joined = examples.flatMap { TrainingExample($0, shares: true).packed }
    #expect(joined.count == 3 && joined.reduce(0) { $0 + $1.tokens.count } < one.reduce(0) { $0 + $1.tokens.count })

    func work(_ samples: [PackedSample]) throws -> (rows: [Float], gradients: [Float]) {
      try learner.read(samples)
      let output = try learner.forward(dropout: SeededRandom(seed: 1))
      let rows = output.read()
      let pool = TensorPool(backbone.engine)
      let gradient = try pool.make(.float32, [backbone.width, output[1]])
      var random = SeededRandom(seed: 10)
      gradient.write((0..<gradient.count).map { _ in random.normal() })
      learner.parameters.zeroGradients()
      try withExtendedLifetime(pool) { try learner.backward(gradient) }
      return (rows, learner.parameters.groups.compactMap { $0.gradients?.read() }.flatMap { $0 })
    }
    let expected = try work(one), found = try work(joined)
    func distance(_ a: [Float], _ b: [Float]) -> Float {
      let difference = zip(a, b).reduce(Float(0)) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      return (difference / a.reduce(Float(0)) { $0 + $1 * $1 }).squareRoot()
    }
    #expect(found.rows.count == expected.rows.count && found.gradients.count == expected.gradients.count)
    // The engine keeps keys and values in F16.
    #expect(distance(expected.rows, found.rows) < 1e-3, "rows: \(distance(expected.rows, found.rows))")
    #expect(
      distance(expected.gradients, found.gradients) < tolerance(2e-3, cuda: 5e-3),
      "\(distance(expected.gradients, found.gradients))")
    learner.parameters.zeroGradients()
  }

  @Test func whatIsCommonIsFoundAndOnlyThat() throws {
    func sample(_ tokens: [Int32], _ rows: [Int]) -> PackedSample { PackedSample(tokens: tokens, lossRows: rows) }
    let first = sample([1, 2, 3, 4, 5], [3, 4]), second = sample([1, 2, 3, 4, 9, 8], [3, 4, 5])
    let joined = try #require(PackedSample(first, and: second, sharingAtLeast: 2))
    #expect(joined.tokens == [1, 2, 3, 4, 5, 4, 9, 8] && joined.lossRows == [3, 4, 5, 6, 7])
    #expect(joined.fork == .init(shared: 3, second: 5) && joined.positions == [0, 1, 2, 3, 4, 3, 4, 5])
    #expect(PackedSample(first, and: second) == nil, "too short to be worth it")
    #expect(PackedSample(first, and: sample([7, 2, 3, 4], [3]), sharingAtLeast: 2) == nil)
    #expect(SampleKey(joined) != SampleKey(sample(joined.tokens, joined.lossRows)))
  }
}
