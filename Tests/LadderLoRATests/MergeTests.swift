import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import TestModels
import Testing

@testable import LadderMethods

/// A merged model computes what llama.cpp does with the adapter applied.
@Suite struct MergeTests {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// ln p of the tokens that follow, at the loss rows.
  private func logProbabilities(_ path: String, adapter: String? = nil) throws -> [Double] {
    let backbone = try Backbone(path: path, threads: 2, device: testDevice)
    let logits = try Fixture.reference(backbone, Fixture.samples, adapter: adapter)
    let vocabulary = logits.count / Fixture.samples.reduce(0) { $0 + $1.lossRows.count }
    return stride(from: 0, to: logits.count, by: vocabulary).flatMap { start -> [Double] in
      let row = logits[start..<(start + vocabulary)].map { Double($0) }, most = row.max() ?? 0
      let sum = log(row.reduce(0) { $0 + exp($1 - most) }) + most
      return row.map { $0 - sum }
    }
  }

  private func mean(_ a: [Double], _ b: [Double]) -> Double {
    zip(a, b).reduce(0) { $0 + abs($1.0 - $1.1) } / Double(a.count)
  }

  private func adapter(_ path: String) throws -> String {
    let f = try Fixture(path)
    try AdapterFiles(f.model).write(to: folder.path, modelName: "tiny")
    return folder.file(AdapterFiles.gguf)
  }

  private func merge(_ model: String, _ adapter: String, type: String? = nil) throws -> String {
    let out = folder.file("merged.gguf")
    try MergedModel(GGUFFile(path: model), adapter: GGUFFile(path: adapter), type: type).write(out, threads: 2)
    return out
  }

  /// In F32 to the rounding of sums.
  @Test(arguments: Fixture.families.filter { $0 != "qwen3moe" }) func f32IsExact(_ family: String) throws {
    let path = try folder.f32(family), adapter = try adapter(path), out = try merge(path, adapter)
    let applied = try logProbabilities(path, adapter: adapter), merged = try logProbabilities(out)
    #expect(zip(applied, merged).allSatisfy { abs($0 - $1) < 2e-3 })
    #expect(mean(applied, try logProbabilities(path)) > 0.02, "an adapter that changes nothing tests nothing")
    // The copy is the model but for the matrices.
    let before = try GGUFFile(path: path), after = try GGUFFile(path: out)
    #expect(before.tensors.map(\.name) == after.tensors.map(\.name))
    #expect(before.metadata.keys.sorted() == after.metadata.keys.sorted())
    #expect(try before.fingerprint().tokenizer == after.fingerprint().tokenizer)
    #expect(try before.fingerprint().weights != after.fingerprint().weights)
  }

  /// Rounded again, the sum is off by what such a type rounds, well below what the adapter changes.
  @Test(
    arguments: [
      (GGML_TYPE_Q8_0, nil, "Q8_0", 0.1), (GGML_TYPE_F16, nil, "F16", 0.01), (GGML_TYPE_BF16, nil, "BF16", 0.05),
      (GGML_TYPE_Q4_0, "f16", "F16", 0.05), (GGML_TYPE_Q4_0, "Q8_0", "Q8_0", 0.1),
    ] as [(ggml_type, String?, String, Double)])
  func otherTypesAreNear(_ type: ggml_type, _ to: String?, _ written: String, _ share: Double) throws {
    let path = try folder.model("typed.gguf") {
      $0.architecture = .llama
      $0.type = type
    }
    let adapter = try adapter(path), out = try merge(path, adapter, type: to)
    let applied = try logProbabilities(path, adapter: adapter), merged = try logProbabilities(out)
    let effect = mean(applied, try logProbabilities(path)), error = mean(applied, merged)
    #expect(error < share * effect, "\(error) beside \(effect)")
    let matrix = try #require(try GGUFFile(path: out).tensors.first { $0.name == "blk.0.attn_q.weight" })
    #expect(matrix.type == written)
  }

  @Test func aModelInSeveralFilesBecomesOne() throws {
    let path = try folder.f32("llama"), adapter = try adapter(path)
    let count = try GGUFFile(path: path).tensors.count
    let parts = try SplitModelFiles.write(path, [0, 9, count - 9], to: folder.file("split"))
    let whole = try Data(contentsOf: URL(fileURLWithPath: try merge(path, adapter)))
    #expect(try Data(contentsOf: URL(fileURLWithPath: try merge(parts[1], adapter))).suffix(1000) == whole.suffix(1000))
    #expect(try GGUFFile(path: folder.file("merged.gguf")).parts.count == 1)
  }

  @Test func whatDoesNotFitIsRefused() throws {
    let path = try folder.f32("llama"), adapter = try adapter(path)
    func refusal(_ model: String, _ adapter: String, type: String? = nil) -> LadderError? {
      do { _ = try merge(model, adapter, type: type) } catch { return error as? LadderError }
      return nil
    }
    #expect(refusal(path, adapter, type: "Q9")?.kind == .usage)
    #expect(refusal(path, adapter, type: "IQ2_XXS")?.kind == .usage)
    #expect(refusal(path, adapter, type: "Q4_K")?.kind == .usage, "rows of 64 hold no blocks of 256")
    #expect(refusal(path, path)?.kind == .data)
    #expect(refusal(try folder.f32("qwen2"), adapter)?.message.contains("llama") == true)
    let narrow = try folder.model("narrow.gguf") {
      $0.architecture = .llama
      $0.width = 32
    }
    #expect(refusal(narrow, adapter)?.kind == .data)
    #expect(!FileManager.default.fileExists(atPath: folder.file("merged.gguf")))
    #expect(MergedModel.types.contains("Q4_K") && !MergedModel.types.contains("IQ1_S"))
  }
}
