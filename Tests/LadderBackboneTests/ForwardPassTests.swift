import CLlama
import Foundation
import LadderCompute
import LadderCore
import LadderData
import TestModels
import Testing

@testable import LadderBackbone

@Suite(.serialized) struct ForwardPassTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func tokens(_ count: Int, seed: Int) -> [Int32] {
    var random = SeededRandom(seed: 5, seed)
    return (0..<count).map { _ in Int32(random.next() % 250) + 3 }
  }

  /// Same engine and same weights, in F32 so that no activation is rounded to 8 bits; a packed call sums attention over
  /// masked neighbours, and taps are rounded to BF16.
  @Test func packedSamplesGiveWhatEachGivesAlone() throws {
    let backbone = try Backbone(path: try folder.model { $0.type = GGML_TYPE_F32 }, threads: 2, device: testDevice)
    let samples = [20, 7, 33, 1, 40].enumerated().map { seed, length in
      PackedSample(tokens: tokens(length, seed: seed), lossRows: length == 1 ? [0] : [0, length - 1])
    }
    let pool = TensorPool(backbone.engine)
    func run(_ samples: [PackedSample], unit: Int) throws -> (taps: [[Float]], final: [Float]) {
      let forward = try ForwardPass(backbone, rungs: [1, 3], maxTokens: 64, unit: unit)
      let n = samples.reduce(0) { $0 + $1.tokens.count }, rows = samples.reduce(0) { $0 + $1.lossRows.count }
      let taps = try [1, 3].map { _ in try pool.make(.bfloat16, [backbone.width, n]) },
        final = try pool.make(.float32, [backbone.width, rows])
      try forward.run(samples, taps: taps, final: final)
      let graph = try Graph(backbone.engine)
      let wide = taps.map { graph.keep(graph.cast($0, .float32)) }
      try graph.compute()
      return (wide.map { $0.read() }, final.read())
    }
    let together = try run(samples, unit: 128), pieces = try run(samples, unit: 16)
    let alone = try samples.map { try run([$0], unit: 64) }
    let taps = (0..<2).map { rung in alone.flatMap { $0.taps[rung] } }, final = alone.flatMap(\.final)
    for result in [together, pieces] {
      for rung in 0..<2 {
        for (a, b) in zip(result.taps[rung], taps[rung]) { #expect(abs(a - b) <= 0.02 * max(1, abs(b))) }
      }
      for (a, b) in zip(result.final, final) { #expect(abs(a - b) < tolerance(5e-3, cuda: 0.02)) }
    }
  }

  /// A pass that ends at its last tap leaves the blocks behind it to nobody: their memory is given back, and whoever runs
  /// them later has the model as it was. A pass that runs them at the time keeps them.
  @Test func blocksThatNobodyRunsAreGivenBack() throws {
    let backbone = try Backbone(path: try folder.model { $0.type = GGML_TYPE_F32 }, threads: 2, device: testDevice)
    let sample = PackedSample(tokens: tokens(20, seed: 2), lossRows: [19]), pool = TensorPool(backbone.engine)
    func tap(_ forward: ForwardPass) throws -> [Float] {
      let tap = try pool.make(.float32, [backbone.width, 20])
      try forward.run([sample], taps: [tap], final: nil)
      return tap.read()
    }
    func final(_ forward: ForwardPass) throws -> [Float] {
      let row = try pool.make(.float32, [backbone.width, 1])
      try forward.run([sample], taps: [], final: row)
      return row.read()
    }
    func whole() throws -> ForwardPass { try ForwardPass(backbone, rungs: [], maxTokens: 64) }
    func part() throws -> ForwardPass { try ForwardPass(backbone, rungs: [2], maxTokens: 64, stopsAtLastTap: true) }

    let beside = try whole(), expected = try final(beside), first = backbone.currentOwner
    let states = try withExtendedLifetime(beside) { try tap(try part()) }
    #expect(backbone.currentOwner === first && backbone.currentOwner?.isWhole == true)
    #expect(try final(beside) == expected)

    let other = try Backbone(path: backbone.path, threads: 2, device: testDevice),
      forward = try ForwardPass(
        other, rungs: [2], maxTokens: 64, stopsAtLastTap: true)
    #if os(Linux)
      #expect(other.currentOwner?.isWhole == (testDevice != "CPU"))
    #endif
    let given = try pool.make(.float32, [backbone.width, 20])
    try forward.run([sample], taps: [given], final: nil)
    #expect(given.read() == states)
    // The same model is asked for all of its blocks while that one goes on.
    let again = try ForwardPass(other, rungs: [], maxTokens: 64), row = try pool.make(.float32, [backbone.width, 1])
    try again.run([sample], taps: [], final: row)
    #expect(row.read() == expected && other.currentOwner?.isWhole == true)
    try forward.run([sample], taps: [given], final: nil)
    #expect(given.read() == states)
  }

  /// Rung 0 is what the first block reads, rung L what the final norm reads: at every row, in calls that each put out few.
  @Test(arguments: [TinyModel.Architecture.llama, .gemma3, .qwen2])
  func theEmbeddingAndTheLastBlockAreTapped(_ architecture: TinyModel.Architecture) throws {
    let path = try folder.model {
      $0.type = GGML_TYPE_F32
      $0.architecture = architecture
    }
    let backbone = try Backbone(path: path, threads: 2, device: testDevice), d = backbone.width
    let samples = [(150, [3, 70, 149]), (9, [8]), (12, [0, 5])].enumerated().map { seed, shape in
      PackedSample(tokens: tokens(shape.0, seed: seed), lossRows: shape.1)
    }
    let count = samples.reduce(0) { $0 + $1.tokens.count }, pool = TensorPool(backbone.engine)
    let forward = try ForwardPass(backbone, rungs: [0, 2, backbone.blocks], maxTokens: 160)
    let taps = try (0..<3).map { _ in try pool.make(.float32, [d, count]) },
      final = try pool.make(.float32, [d, samples.reduce(0) { $0 + $1.lossRows.count }])
    try forward.run(samples, taps: taps, final: final)
    func weight(_ name: String) throws -> [Float] {
      try backbone.file.values(of: try #require(backbone.file.tensors.first { $0.name == name }))
    }
    let table = try weight("token_embd.weight"), norm = try weight("output_norm.weight")
    let scale = architecture == .gemma3 ? Float(d).squareRoot() : 1
    let first = taps[0].read(), last = taps[2].read(), rows = final.read()
    for (row, token) in samples.flatMap(\.tokens).enumerated() {
      for i in 0..<d { #expect(abs(first[row * d + i] - scale * table[Int(token) * d + i]) < 1e-3) }
    }
    var start = 0, next = 0
    for sample in samples {
      for row in sample.lossRows {
        let state = last[((start + row) * d)..<((start + row + 1) * d)]
        let size = (state.reduce(0) { $0 + $1 * $1 } / Float(d) + 1e-6).squareRoot()
        for (i, value) in state.enumerated() {
          #expect(abs(rows[next * d + i] - value / size * norm[i]) < tolerance(2e-3, cuda: 0.02))
        }
        next += 1
      }
      start += sample.tokens.count
    }
    // What else is read is what a pass without those two reads.
    let plain = try ForwardPass(backbone, rungs: [2], maxTokens: 160), middle = try pool.make(.float32, [d, count]),
      alone = try pool.make(.float32, [d, final[1]])
    try plain.run(samples, taps: [middle], final: alone)
    for (a, b) in zip(taps[1].read(), middle.read()) { #expect(abs(a - b) < tolerance(2e-3, cuda: 0.02)) }
    for (a, b) in zip(rows, alone.read()) { #expect(abs(a - b) < tolerance(2e-3, cuda: 0.02)) }
  }

  @Test func extendingGivesTheWholeTextsLastRow() throws {
    let backbone = try Backbone(path: try folder.model(), threads: 2, device: testDevice)
    let pool = TensorPool(backbone.engine), text = tokens(30, seed: 1)
    let forward = try ForwardPass(backbone, rungs: [2], maxTokens: 64)
    func final(_ parts: [ArraySlice<Int32>]) throws -> [Float] {
      forward.clear()
      var past = 0
      let row = try pool.make(.float32, [backbone.width, 1])
      for part in parts {
        let tap = try pool.make(.bfloat16, [backbone.width, part.count])
        try forward.extend([.init(sequence: 0, past: past, tokens: Array(part))], taps: [tap], final: row)
        past += part.count
      }
      return row.read()
    }
    let whole = try final([text[...]]), stepped = try final([text[..<20]] + (20..<30).map { text[$0...$0] })
    for (a, b) in zip(whole, stepped) { #expect(abs(a - b) < tolerance(5e-3, cuda: 0.1)) }
  }

  @Test(arguments: [TinyModel.Architecture.qwen2, .llama, .gemma2, .granite]) func headFollowsTheArchitecturesOwnRule(
    _ architecture: TinyModel.Architecture
  )
    throws
  {
    let backbone = try Backbone(
      path: try folder.model { $0.architecture = architecture }, threads: 2, device: testDevice)
    let text = tokens(24, seed: 3), rows = Array(0..<23), targets = Array(text.dropFirst())
    let forward = try ForwardPass(backbone, rungs: [1], maxTokens: 64)
    let pool = TensorPool(backbone.engine)
    let tap = try pool.make(.bfloat16, [backbone.width, 24]), final = try pool.make(.float32, [backbone.width, 23])
    try forward.run([PackedSample(tokens: text, lossRows: rows)], taps: [tap], final: final)
    let graph = try Graph(backbone.engine)
    let logits = graph.keep(backbone.head.logits(graph, final))
    try graph.compute()
    let l = logits.read(), v = backbone.vocabulary
    let reference = try ReferenceLogits(backbone, maxTokens: 64).logProbabilities(text, rows: rows, targets: targets)
    for row in rows {
      let own = l[(row * v)..<((row + 1) * v)], most = Double(own.max() ?? 0)
      let mine =
        Double(own[own.startIndex + Int(targets[row])]) - most - log(own.reduce(0.0) { $0 + exp(Double($1) - most) })
      #expect(abs(mine - reference[row]) < 1e-3)
    }
    #expect(backbone.head.capped == (architecture == .gemma2))
  }

  @Test func tiedHeadAndEmbeddingAreOneTensor() throws {
    // Q4_K is a type that llama.cpp repacks: two copies unless asked otherwise.
    let path = try folder.model { model in
      model.tied = true
      model.width = 256
      model.feedForward = 256
      model.type = GGML_TYPE_Q4_K
    }
    let backbone = try Backbone(path: path, threads: 2, device: testDevice)
    #expect(
      Int(llama_model_size(try backbone.enginePointer())) <= backbone.file.tensors.reduce(0) { $0 + $1.bytes } + 4096)
    #expect(String(cString: ggml_get_name(backbone.head.weight.pointer)) == "token_embd.weight")
  }
}
