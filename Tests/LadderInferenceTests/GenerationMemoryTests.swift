import LadderBackbone
import LadderCore
import LadderInference
import LadderMethods
import TestModels
import Testing

@Suite struct GenerationMemoryTests {
  @Test func everyContextRungAndStateIsCounted() throws {
    let folder = try TemporaryFolder(), model = try ModelDimensions(GGUFFile(path: try folder.model()))
    var settings = GenerationEngine.Settings()
    settings.tokens = 4096
    settings.texts = 4
    func memory(_ served: [ServingLoad]) -> GenerationMemory { GenerationMemory(model, settings, served) }
    var side = SideConfiguration()
    side.rungs = .list([1, 3])
    side.reduction = 2
    side.headSize = 16
    let one = try TuningMethod.ladder(side).tuning.serving(model), base = memory([])
    #expect(one.rungs == [1, 3] && !one.hasContext)
    // Eight side networks on the same rungs keep what one keeps of texts.
    let eight = memory(Array(repeating: one, count: 8))
    #expect(eight.runs == 8 * one.weights && eight.contexts == base.contexts)
    #expect(eight.texts == memory([one]).texts && base.texts == 0)
    #expect(eight.texts >= 4096 * (2 * 2 * model.width + one.stateBytesPerToken))
    // An adapter changes keys and values.
    let adapter = try TuningMethod.lora(LoRAConfiguration()).tuning.serving(model)
    #expect(adapter.hasContext && adapter.weights > 0)
    #expect(memory([one, adapter, adapter]).contexts == 3 * base.contexts)
    settings.tokens = 8192
    let keys = model.keyBytesPerToken * model.blocks * 4096
    #expect(memory([]).contexts - base.contexts >= keys && memory([]).contexts - base.contexts < 2 * keys + (32 << 20))
  }
}
