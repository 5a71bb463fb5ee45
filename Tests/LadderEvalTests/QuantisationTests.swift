import CLlama
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
import LadderTrain
import TestModels
import Testing

/// Every type of weights that ggml turns into numbers.
@Suite(.serialized) struct QuantisationTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  /// Those that ggml can also make from numbers: all that files hold. LLVM ends the process where it compiles TQ2_0's
  /// shader for a processor.
  static let types = (0..<Int(GGML_TYPE_COUNT.rawValue)).map { ggml_type(rawValue: UInt32($0)) }.filter { type in
    ggml_blck_size(type) > 0 && ggml_get_type_traits(type).pointee.to_float != nil && isMade(type)
      && !(testDeviceIsSoftware && type == GGML_TYPE_TQ2_0)
  }.map { String(cString: ggml_type_name($0)) }

  private static func isMade(_ type: ggml_type) -> Bool {
    let values = [Float](repeating: 1, count: 256)
    var target = [UInt8](repeating: 0, count: 2048)
    return ggml_quantize_chunk(type, values, &target, 0, 1, 256, values) > 0
  }

  private func model(_ type: String) throws -> String {
    try folder.model("\(type).gguf") { model in
      model.type =
        (0..<GGML_TYPE_COUNT.rawValue).map(ggml_type.init(rawValue:)).first {
          ggml_type_name($0).map { String(cString: $0) == type } ?? false
        } ?? GGML_TYPE_F32
      model.architecture = .qwen3
      model.width = 256
      model.feedForward = 256
      model.blocks = 2
    }
  }

  private func samples() -> [EncodedSample] {
    (0..<4).compactMap { (i: Int) -> EncodedSample? in
      let tokens: [Int32] = (0..<20).map { (j: Int) in Int32(3 + (7 * i + 5 * j) % 250) }
      return EncodedSample(sequence: tokens, learned: tokens.indices.map { $0 > 8 })
    }
  }

  @Test func allOfThemAreTried() { #expect(Self.types.count >= 25, "\(Self.types)") }

  /// A side network that starts as pruned blocks, and a low-rank adapter, learn on each; the head's gradient goes
  /// through single rows of its weights.
  @Test(arguments: types) func bothMethodsLearnOn(_ type: String) throws {
    let backbone = try Backbone(path: try model(type), threads: 2, device: testDevice)
    var side = SideConfiguration(), adapter = LoRAConfiguration()
    side.rungs = .all
    side.initialisation = .backbone
    adapter.rank = 4
    for method in [TuningMethod.ladder(side), .lora(adapter)] {
      var settings = TrainingConfiguration()
      settings.method = method
      let session = try TrainingSession(backbone, settings, maxTokens: 32)
      try session.initialise(samples())
      let losses = try (0..<6).map {
        try session.take(samples(), number: $0, learningRate: 5e-3).loss
      }
      #expect(losses[5] < losses[0] && losses.allSatisfy(\.isFinite), "\(method.name): \(losses)")
    }
  }

  /// What QLoRA computes with a type's weights is what llama.cpp computes with them: the kernels round activations to 8
  /// bits, each in its own way.
  @Test(arguments: types) func adaptersStartWhereLlamaCppIs(_ type: String) throws {
    let backbone = try Backbone(path: try model(type), threads: 2, device: testDevice)
    let learner = try LoRALearner(LoRAConfiguration(), backbone, maxTokens: 32)
    try learner.initialise(seed: 1, [])
    let pool = TensorPool(backbone.engine)
    for sample in samples() {
      try learner.read([sample.packed])
      let own = try learner.forward(dropout: nil).read()
      let rows = try pool.make(.float32, [backbone.width, sample.lossRows.count])
      try ForwardPass(backbone, rungs: [], maxTokens: 32, exactAttention: true).run(
        [sample.packed], taps: [], final: rows)
      let theirs = rows.read()
      let error = zip(own, theirs).reduce(Float(0)) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      let size = theirs.reduce(Float(0)) { $0 + $1 * $1 }
      #expect((error / size).squareRoot() < 0.05, "\((error / size).squareRoot())")
    }
  }
}
