import CKernels
import CLlama
import Foundation
import LadderCompute
import LadderCore
import LadderData
import TestModels
import Testing

@testable import LadderBackbone

/// A whole model whose products are our kernels' against the same with the engine's own.
@Suite(.enabled(if: ladder_multiplies_quantised(8, 32) != 0, "a processor with the kernels"))
struct EngineProductsTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func tokens(_ count: Int) -> [Int32] {
    var random = SeededRandom(seed: 9)
    return (0..<count).map { _ in Int32(random.next() % 250) + 3 }
  }

  /// 8-bit roundings of activations fall out otherwise where a sum's last bit differs.
  private func expectClose(_ a: Tensor, _ b: Tensor, sourceLocation: SourceLocation = #_sourceLocation) {
    let own = a.read(), other = b.read()
    let size = (other.reduce(0) { $0 + $1 * $1 } / Float(other.count)).squareRoot()
    let off = (zip(own, other).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / Float(own.count)).squareRoot()
    #expect(size > 0 && off < 0.05 * size, sourceLocation: sourceLocation)
  }

  /// Prompts, the same again in a graph that llama.cpp keeps, and single tokens after them.
  @Test(
    arguments: [GGML_TYPE_Q8_0, GGML_TYPE_Q5_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K],
    [TinyModel.Architecture.llama, .gemma3])
  func statesAreTheEngines(_ type: ggml_type, _ architecture: TinyModel.Architecture) throws {
    let path = try folder.model {
      $0.architecture = architecture
      $0.type = type
      $0.width = 256
      $0.feedForward = 512
    }
    let backbone = try Backbone(path: path, threads: 2, device: "CPU"), pool = TensorPool(backbone.engine)
    let text = tokens(48), sample = PackedSample(tokens: text, lossRows: [20, 47])
    let own = try ForwardPass(backbone, rungs: [1, 3], maxTokens: 64),
      plain = try ForwardPass(backbone, rungs: [1, 3], maxTokens: 64, engineAlone: true)
    func whole(_ forward: ForwardPass) throws -> [Tensor] {
      let taps = try [1, 3].map { _ in try pool.make(.float32, [backbone.width, 48]) },
        final = try pool.make(.float32, [backbone.width, 2])
      try forward.run([sample], taps: taps, final: final)
      return taps + [final]
    }
    let first = try whole(own), expected = try whole(plain)
    for (a, b) in zip(first, expected) { expectClose(a, b) }
    for (a, b) in zip(first, try whole(own)) { #expect(a.read() == b.read()) }
    for (a, b) in zip(expected, try whole(plain)) { #expect(a.read() == b.read()) }

    func steps(_ forward: ForwardPass) throws -> [Tensor] {
      forward.clear()
      return try [0..<20, 20..<23, 23..<24, 24..<25].map { part in
        let taps = try [1, 3].map { _ in try pool.make(.float32, [backbone.width, part.count]) },
          final = try pool.make(.float32, [backbone.width, 1])
        try forward.extend(
          [.init(sequence: 0, past: part.lowerBound, tokens: Array(text[part]))], taps: taps, final: final)
        return final
      }
    }
    for (a, b) in zip(try steps(own), try steps(plain)) { expectClose(a, b) }
  }

  /// What was run before leaves nothing behind: other lengths, other rows that are put out, another pass on the engine.
  @Test func samplesDoNotDependOnThoseBefore() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: "CPU")
    let pool = TensorPool(backbone.engine), text = tokens(60)
    let samples = [(30, [29]), (7, [1, 6]), (60, [58, 59]), (30, [3, 4, 5]), (1, [0]), (33, [32]), (30, [29])].map {
      PackedSample(tokens: Array(text.prefix($0.0)), lossRows: $0.1)
    }
    func run(_ forward: ForwardPass, _ sample: PackedSample) throws -> [Float] {
      let tap = try pool.make(.float32, [backbone.width, sample.tokens.count]),
        final = try pool.make(.float32, [backbone.width, sample.lossRows.count])
      try forward.run([sample], taps: [tap], final: final)
      return tap.read() + final.read()
    }
    let first = try ForwardPass(backbone, rungs: [2], maxTokens: 64),
      second = try ForwardPass(backbone, rungs: [3], maxTokens: 64)
    for (place, sample) in samples.enumerated() {
      let alone = try run(try ForwardPass(backbone, rungs: [2], maxTokens: 64), sample)
      #expect(try run(first, sample) == alone, "sample \(place)")
      _ = try run(second, samples[(place + 2) % samples.count])
      #expect(try run(first, sample) == alone, "sample \(place) again")
    }
  }

  /// Every product of the blocks is taken over, and none where the engine is left alone.
  @Test func productsAreTakenOver() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: "CPU")
    let pool = TensorPool(backbone.engine), sample = PackedSample(tokens: tokens(30), lossRows: [29])
    func operations(engineAlone: Bool) throws -> [String: Int] {
      let forward = try ForwardPass(backbone, rungs: [1], maxTokens: 64, engineAlone: engineAlone)
      let tap = try pool.make(.float32, [backbone.width, 30]), final = try pool.make(.float32, [backbone.width, 1])
      let counts = try backbone.engine.counting { try forward.run([sample], taps: [tap], final: final) }.counts
      return Dictionary(counts.map { (String($0.operation.prefix { $0 != " " }), $0.times) }, uniquingKeysWith: +)
    }
    let own = try operations(engineAlone: false), plain = try operations(engineAlone: true)
    #expect(own["CUSTOM"] == 7 * backbone.blocks && plain["CUSTOM"] == nil)
    #expect(plain["MUL_MAT", default: 0] - own["MUL_MAT", default: 0] == 7 * backbone.blocks)
  }

  /// Matrices that are multiplied here keep their layout; a kind of which one is of another type, and experts, do not.
  @Test func servedMatricesStayPlain() throws {
    let engine = try Engine(threads: 1, device: "CPU")
    func tensor(_ name: String, _ type: ggml_type, _ shape: [Int]) -> GGUFFile.TensorInfo {
      .init(
        name: name, shape: shape, type: String(cString: ggml_type_name(type)).uppercased(), path: "", offset: 0,
        bytes: 0,
        ggmlType: type)
    }
    let tensors = [
      tensor("token_embd.weight", GGML_TYPE_Q6_K, [256, 1000]),
      tensor("blk.0.attn_q.weight", GGML_TYPE_Q4_K, [256, 256]),
      tensor("blk.10.attn_q.weight", GGML_TYPE_Q6_K, [256, 256]),
      tensor("blk.0.ffn_up.weight", GGML_TYPE_Q4_K, [256, 512]),
      tensor("blk.1.ffn_up.weight", GGML_TYPE_Q2_K, [256, 512]),
      tensor("blk.0.attn_norm.weight", GGML_TYPE_F32, [256]),
      tensor("blk.0.ffn_down_exps.weight", GGML_TYPE_Q4_K, [256, 256, 8]),
    ]
    let names = ModelLoading.plainNames(tensors, engine)
    #expect(names == #"^(output|token_embd|blk\.[0-9]+\.(attn_q))\.weight$"#)
    #expect(ModelLoading.plainNames([], engine) == #"^(output|token_embd)\.weight$"#)
    // The file is the weights where all of them are multiplied here.
    let all = [tensors[0], tensors[1], tensors[2], tensors[5]]
    #expect(ModelLoading.isPlain(all, engine))
    for other in [tensors[4], tensors[6]] { #expect(!ModelLoading.isPlain(all + [other], engine)) }
  }

  #if os(Linux)
    /// A file's own pages hold the weights, of the model that is loaded and of nobody else.
    @Test func aModelOfServedMatricesIsMapped() throws {
      let folder = try TemporaryFolder()
      for (type, isMapped) in [(GGML_TYPE_Q8_0, true), (GGML_TYPE_IQ4_NL, false)] {
        let path = try folder.model("\(type.rawValue).gguf") { $0.type = type }
        let backbone = try Backbone(path: path, threads: 1, device: "CPU")
        let maps = try String(contentsOfFile: "/proc/self/maps", encoding: .utf8)
        #expect(maps.contains(path) == isMapped, "\(backbone.path)")
      }
    }
  #endif
}
