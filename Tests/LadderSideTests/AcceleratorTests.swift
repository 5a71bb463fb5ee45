import CLlama
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
import TestModels
import Testing

/// What is asked of a device other than the processor; on the processor they hold too.
@Suite(.serialized) struct AcceleratorTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func rows(_ backbone: Backbone) throws -> (rows: [Float], census: OperationCensus) {
    let tokens = (0..<24).map { Int32(5 + $0 * 7 % 200) }
    let sample = PackedSample(tokens: tokens, lossRows: Array(8..<24))
    let forward = try ForwardPass(backbone, rungs: [1, 3], maxTokens: 64), pool = TensorPool(backbone.engine)
    let taps = try (0..<2).map { _ in try pool.make(.bfloat16, [backbone.width, tokens.count]) }
    let final = try pool.make(.float32, [backbone.width, 16])
    let counted = try backbone.engine.counting { try forward.run([sample], taps: taps, final: final) }
    return (final.read(), counted)
  }

  /// Nothing runs behind the final norm: the head is not computed where it is skipped.
  @Test func theHeadIsNotRun() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: testDevice)
    let counts = try rows(backbone).census.counts
    #expect(!counts.isEmpty && counts.contains { $0.part == .model })
    #expect(!counts.contains { $0.part == .behindTheNorm })
  }

  /// Blocks on the processor beside blocks on the device give what one of them gives.
  @Test(arguments: [0, 2, nil]) func layersMayLieOnTwoDevices(_ gpuLayers: Int?) throws {
    let path = try folder.model { $0.type = GGML_TYPE_F32 }
    let whole = try rows(try Backbone(path: path, threads: 2, device: "CPU"))
    let backbone = try Backbone(path: path, threads: 2, device: testDevice, gpuLayers: gpuLayers)
    let parted = try rows(backbone)
    #expect(parted.rows.count == whole.rows.count)
    // An accelerator may multiply in half precision.
    let tolerance: Float = testDevice == "CPU" ? 1e-3 : 5e-2
    #expect(zip(whole.rows, parted.rows).allSatisfy { abs($0 - $1) < tolerance })
    #expect(!parted.census.counts.contains { $0.part == .behindTheNorm })
  }

  /// A result of a type that the device does not convert to is still stored.
  @Test func resultsAreStoredInEveryType() throws {
    let engine = try Engine(threads: 2, device: testDevice), pool = TensorPool(engine), graph = try Graph(engine)
    let numbers = (0..<64).map { Float($0) / 8 }
    let source = try pool.make(numbers, [32, 2])
    for type in [ElementType.bfloat16, .float16, .float32] {
      let target = try pool.make(type, [32, 2])
      graph.reset()
      graph.store(graph.scale(source, 1), in: target)
      let back = graph.keep(graph.store(target, in: try pool.make(.float32, [32, 2])))
      try graph.compute()
      #expect(back.read() == numbers)
    }
  }
}
