import CLlama
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import TestModels
import Testing

@testable import LadderMethods

/// A model with additions at every matrix, all of them away from zero.
struct Fixture {
  let backbone: Backbone
  let model: LoRAModel
  let step: LoRAStep
  /// What lies below the additions, its keys, values and attention in F32; nil where nothing does.
  let source: (any TapSource)?

  init(_ path: String, _ change: (inout LoRAConfiguration) -> Void = { _ in }, zero: Bool = false) throws {
    backbone = try Backbone(path: path, threads: 2, device: testDevice)
    var configuration = LoRAConfiguration()
    configuration.rank = 4
    change(&configuration)
    model = try LoRAModel(configuration, backbone)
    model.initialise(seed: 3)
    step = try LoRAStep(model)
    let rungs = try configuration.needs(on: backbone.outline).rungs
    source =
      rungs.isEmpty
      ? nil
      : try ForwardPass(
        backbone, rungs: rungs, maxTokens: 64, unit: 64, exactAttention: true, stopsAtLastTap: true)
    if zero { return }
    for (index, specification) in model.parameters.specifications.enumerated() where specification.name.hasSuffix("_b")
    {
      var random = SeededRandom(seed: 8, index)
      model.parameters[specification.name].write((0..<specification.count).map { _ in random.normal() * 0.1 })
    }
  }

  static func text(_ count: Int, seed: Int) -> [Int32] {
    var random = SeededRandom(seed: 5, seed)
    return (0..<count).map { _ in Int32(random.next() % 250) + 3 }
  }

  static let samples = [9, 44, 5].enumerated().map { seed, length in
    PackedSample(tokens: text(length, seed: seed), lossRows: Array((length / 3)..<length))
  }

  func read(_ samples: [PackedSample]) throws { try step.read(samples, from: source) }

  /// Logits at the loss rows, row by row.
  func logits(_ samples: [PackedSample]) throws -> [Float] {
    try read(samples)
    let graph = try Graph(backbone.engine), rows = try step.forward(keeps: false)
    let logits = graph.keep(backbone.head.logits(graph, rows))
    try graph.compute()
    return logits.read()
  }

  /// Compares gradients with central differences in the `count` largest of each of these parameters, the head's input
  /// dotted with a fixed direction.
  func expectGradientsAgreeWithDifferences(
    in specifications: [Parameters.Specification], largest count: Int, _ family: String
  ) throws {
    let samples = Self.samples, rows = samples.reduce(0) { $0 + $1.lossRows.count }, d = backbone.width
    var random = SeededRandom(seed: 4)
    let direction = (0..<(d * rows)).map { _ in random.normal() }
    func value() throws -> Double {
      try read(samples)
      return zip(try step.forward(keeps: false).read(), direction).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    }
    let pool = TensorPool(backbone.engine), gradient = try pool.make(direction, [d, rows])
    try read(samples)
    _ = try step.forward()
    try step.backward(gradient)
    for specification in specifications {
      let tensor = model.parameters[specification.name]
      let analytic = try #require(model.parameters.gradient(specification.name)).read(),
        largest = analytic.map(abs).max() ?? 0
      #expect(largest > 0, "\(specification.name) gets no gradient")
      for i in analytic.indices.sorted(by: { abs(analytic[$0]) > abs(analytic[$1]) }).prefix(count) {
        let numeric = try tensor.centralDifference(i, h: family == "gemma3" ? 0.02 : 0.004, value)
        // ggml's GELU is a table over F16: its differences are coarse.
        #expect(
          abs(numeric - analytic[i]) < tolerance(family == "gemma3" ? 0.06 : 0.02, cuda: 0.2) * largest,
          "\(specification.name)[\(i)]: \(analytic[i]) against \(numeric)")
      }
    }
  }

  static let families = ["llama", "qwen2", "qwen3", "gemma3", "phi3", "mistral3", "granite", "qwen3moe"]

  /// llama.cpp's logits, its keys, values and attention in F32.
  ///
  /// - Parameter adapter: a GGUF file that it applies.
  static func reference(
    _ backbone: Backbone, _ samples: [PackedSample], tokens: Int = 64, adapter: String? = nil
  ) throws -> [Float] {
    let backbone = try backbone.withExactAttention()
    let adapter = try adapter.map { try EngineAdapter(path: $0, backbone) }
    let rows = samples.reduce(0) { $0 + $1.lossRows.count }, pool = TensorPool(backbone.engine)
    let final = try pool.make(.float32, [backbone.width, rows])
    try ForwardPass(backbone, rungs: [], maxTokens: tokens, unit: tokens, exactAttention: true, adapter: adapter).run(
      samples, taps: [], final: final)
    let graph = try Graph(backbone.engine), logits = graph.keep(backbone.head.logits(graph, final))
    try graph.compute()
    return logits.read()
  }

  static func worst(_ a: [Float], _ b: [Float]) -> Float { zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) } }
}

extension TemporaryFolder {
  /// A tiny model of a family, its weights in F32.
  func f32(_ family: String) throws -> String {
    if let known = TinyModel.Architecture(rawValue: family) {
      return try model("\(family).gguf") { model in
        model.architecture = known
        model.type = GGML_TYPE_F32
      }
    }
    try #require(Architectures.named(family)).write(file("\(family).gguf"))
    return file("\(family).gguf")
  }

  /// The same without jumps: where experts are chosen, all of them are, as a difference may change a close choice.
  func smooth(_ family: String) throws -> String {
    guard var model = Architectures.named(family), let experts = model.keys["expert_count"] else {
      return try f32(family)
    }
    model.keys["expert_used_count"] = experts
    try model.write(file("smooth.gguf"))
    return file("smooth.gguf")
  }
}
