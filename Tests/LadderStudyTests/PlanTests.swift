import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderMethods
import LadderTrain
import TestModels
import Testing

@testable import LadderStudy

@Suite(.serialized) struct PlanTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private static let shape = ModelShape(
    name: "small", architecture: "qwen2", blocks: 6, width: 256, feedForward: 512, heads: 4, keyHeads: 2,
    vocabulary: 4096, tied: true)

  @Test func dimensionsComeFromTheHeaderAlone() throws {
    let whole = folder.file("whole.gguf"), header = folder.file("header.gguf")
    try RandomModel(Self.shape).write(whole)
    try RandomModel(Self.shape).write(header, headerOnly: true)
    let a = try ModelDimensions(GGUFFile(path: whole)),
      b = try ModelDimensions(GGUFFile(path: header, headerOnly: true))
    #expect(a == b)
    #expect(
      a.blocks == 6 && a.width == 256 && a.vocabulary == 4096 && a.tied && a.blockType == "Q4_0" && a.headSize == 64)
    #expect(throws: LadderError.self) { try GGUFFile(path: header) }
  }

  @Test func aRandomModelRuns() throws {
    let path = folder.file("m.gguf")
    try RandomModel(Self.shape).write(path)
    let backbone = try Backbone(path: path, threads: 2, device: "CPU")
    var options = SpeedBenchmark.Options()
    options.length = 96
    options.steps = 2
    options.decodedTokens = 4
    let result = try SpeedBenchmark(backbone, TrainingConfiguration(), options).run()
    #expect(result.tokens == 192)
    let speeds: [Double] = [
      result.engineTokensPerSecond, result.trainTokensPerSecond, result.cachedTokensPerSecond ?? 0,
      result.decodeLadderTokensPerSecond ?? 0,
    ]
    for speed in speeds { #expect(speed > 0 && speed.isFinite) }
    let shares = result.backboneShare + result.sideShare + result.headShare + result.optimiserShare
    #expect(abs(shares - 1) < 1e-6)
  }

  @Test func whatFitsComesFirst() throws {
    let path = folder.file("m.gguf")
    try RandomModel(try .named("qwen2.5-7b")).write(path, headerOnly: true)
    var options = Plan.Options()
    options.predictsTime = false
    options.memory = 6_000_000_000
    let rows = try Plan.rows(try GGUFFile(path: path, headerOnly: true), options)
    let fits = rows.map { $0.fits == true }
    #expect(fits.contains(true) && fits.contains(false))
    #expect(fits == fits.sorted { $0 && !$1 })
    func peak(_ method: String, _ text: String, _ length: Int) -> Int {
      rows.first { $0.method == method && $0.options == text && $0.length == length }?.peakBytes ?? 0
    }
    // QLoRA keeps every block's activations; LST's peak at 2,048 tokens is at most half of it.
    #expect(
      2 * peak("lst", "--downsample lowrank:16 --reduction 16 --rungs 4", 2048) < peak("qlora", "--rank 16", 2048))
    #expect(peak("qlora", "--checkpointing on --rank 16", 2048) < peak("qlora", "--rank 16", 2048))
  }

  /// A plan is of what training packs into memory by its defaults.
  @Test func shortSamplesArePlannedAsTheyArePacked() throws {
    let path = folder.file("m.gguf")
    try RandomModel(try .named("qwen2.5-0.5b")).write(path, headerOnly: true)
    let file = try GGUFFile(path: path, headerOnly: true)
    func peaks(_ sequences: Int?) throws -> [Int] {
      var options = Plan.Options()
      options.predictsTime = false
      options.sequences = sequences
      return try Plan.rows(file, options).filter { $0.method == "qlora" && $0.length == 512 }.map(\.peakBytes)
    }
    #expect(try peaks(nil) == peaks(4) && zip(peaks(1), peaks(4)).allSatisfy { $0 < $1 })
  }

  /// Time is measured on blocks of the model's own kind and types, and on a head of its own size.
  @Test(arguments: ["llama, tied head, biases, no grouping", "qwen3", "gemma3", "phi3", "granite", "qwen3moe"])
  func blocksAreMeasuredAsTheModelsOwn(_ family: String) throws {
    let path = folder.file("model.gguf"), small = folder.file("small.gguf")
    try #require(Architectures.named(family)).write(path)
    let file = try GGUFFile(path: path), dimensions = try ModelDimensions(file)
    try ProxyModel(of: file, dimensions, blocks: 3, vocabulary: 1000).write(small)
    let proxy = try Backbone(path: small, threads: 2, device: "CPU")
    #expect(proxy.file.architecture == file.architecture && proxy.blocks == 3 && proxy.vocabulary == 1000)
    func own(_ file: GGUFFile) -> Set<String> { Set(file.tensors.map(\.name).filter { $0.hasPrefix("blk.1.") }) }
    #expect(own(proxy.file) == own(file))
    let speed = try SpeedModel(file, threads: 2, device: "CPU")
    let load = TrainingLoad(length: 64, tokens: 64, lossRows: 64)
    func seconds(_ change: (inout LoRAConfiguration) -> Void) throws -> Double {
      var lora = LoRAConfiguration()
      lora.targets = [.q, .o]
      change(&lora)
      return try lora.seconds(dimensions, load, on: speed)
    }
    #expect(try seconds { _ in } > 0 && seconds { $0.blocks = .last(1) } > 0)
    #expect(speed.headRow > 0)
  }

  /// Types differ between a file's blocks: those that are measured are spread over it.
  @Test func measuredTypesAreThoseOfBlocksSpreadOverTheModel() throws {
    let path = folder.file("model.gguf"), mixed = folder.file("mixed.gguf"), small = folder.file("small.gguf")
    try RandomModel(Self.shape).write(path)
    let header = try #require(gguf_init_from_file(path, gguf_init_params(no_alloc: true, ctx: nil)))
    defer { gguf_free(header) }
    // Blocks 1, 3 and 5 of six stand for them.
    gguf_set_tensor_type(header, "blk.3.ffn_down.weight", GGML_TYPE_Q8_0)
    try #require(gguf_write_to_file(header, mixed, true))
    let file = try GGUFFile(path: mixed, headerOnly: true)
    try ProxyModel(of: file, ModelDimensions(file), blocks: 3, vocabulary: 1000).write(small)
    let types = try GGUFFile(path: small).tensors.filter { $0.name.hasSuffix("ffn_down.weight") }.map(\.type)
    #expect(types == ["Q4_0", "Q8_0", "Q4_0"])
  }

  @Test func anXLadderHasTheParametersOfOnePass() throws {
    for (width, blocks) in [(640, 18), (896, 24), (3584, 28)] {
      for rungs in [SideConfiguration.Rungs.middle, .every(4)] {
        for downsampler in [SideConfiguration.Downsampler.linear, .lowRank(16)] {
          var c = SideConfiguration()
          c.rungs = rungs
          c.downsampler = downsampler
          let one = try SideGeometry(c, backboneWidth: width, blocks: blocks)
          let target = SideNetwork.specifications(c, one).reduce(0) { $0 + $1.count }
          for passes in 2...4 {
            c.passes = passes
            let geometry = try SideGeometry(c, backboneWidth: width, blocks: blocks)
            let count = SideNetwork.specifications(c, geometry).reduce(0) { $0 + $1.count }
            #expect(geometry.layers == passes * one.rungs.count)
            #expect(abs(count - target) * 100 <= target)
          }
        }
      }
    }
  }

  @Test func fittedLinesAndTicks() {
    let curve = MemoryCurve([512, 1024, 4096, 16384].map { .init(length: $0, peakBytes: 1_000_000 + 300 * $0) })
    #expect(
      abs(curve.slope - 300) < 1e-3 && abs(curve.intercept - 1e6) < 1 && curve.worstResidual < 1e-6
        && abs(curve.quadraticShare) < 1e-6)
    let bent = MemoryCurve([512, 1024, 4096, 16384].map { .init(length: $0, peakBytes: 1_000_000 + $0 * $0) })
    #expect(bent.quadraticShare > 0.9)
    #expect(LineChart.ticks(0, 17000) == [0, 5000, 10000, 15000, 20000])
    let svg = curve.chart("a < b").svg()
    #expect(svg.contains("a &lt; b") && svg.contains("<polyline") && svg.hasSuffix("</svg>\n"))
  }
}
