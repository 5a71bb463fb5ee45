import Foundation
import LadderBackbone
@testable import LadderCompute
import LadderCore
@testable import LadderTrain
import TestModels
import Testing

@Suite struct AdamWTests {
  /// The textbook update, in double precision; F32 rounding over three steps.
  @Test func followsTheTextbook() throws {
    let engine = try Engine(threads: 1, device: testDevice)
    let parameters = try Parameters([.init("w", [2]), .init("b", [1], decays: false)], engine, trainable: true)
    parameters["w"].write([1, -2] as [Float])
    parameters["b"].write([0.5])
    var settings = AdamW.Settings()
    settings.clip = 0
    settings.weightDecay = 0.1
    let optimiser = try AdamW(parameters, settings, engine)
    var x = [1.0, -2, 0.5], m = [0.0, 0, 0], v = [0.0, 0, 0]
    for t in 1...3 {
      let g = [0.3 * Double(t), -0.1, 0.7]
      try #require(parameters.gradient("w")).write([Float(g[0]), Float(g[1])])
      try #require(parameters.gradient("b")).write([Float(g[2])])
      _ = try optimiser.update(learningRate: 0.01)
      for i in 0..<3 {
        m[i] = 0.9 * m[i] + 0.1 * g[i]
        v[i] = 0.95 * v[i] + 0.05 * g[i] * g[i]
        x[i] -=
          0.01
          * (m[i] / (1 - pow(0.9, Double(t))) / ((v[i] / (1 - pow(0.95, Double(t)))).squareRoot() + 1e-8)
            + (i < 2 ? 0.1 * x[i] : 0))
      }
    }
    for (a, b) in zip(parameters["w"].read() + parameters["b"].read(), x) { #expect(abs(Double(a) - b) < 1e-5) }
  }

  /// What one operation may take at most changes nothing.
  @Test func takesParametersInPieces() throws {
    func run(_ most: Int?) throws -> [Float] {
      let engine = try Engine(threads: 1, device: testDevice), n = 5000
      if let most { engine.mostNumbers = most }
      let parameters = try Parameters([.init("w", [n])], engine, trainable: true)
      var random = SeededRandom(seed: 5)
      let optimiser = try AdamW(parameters, AdamW.Settings(), engine)
      for _ in 0..<2 {
        try #require(parameters.gradient("w")).write((0..<n).map { _ in random.normal() })
        _ = try optimiser.update(learningRate: 0.01)
      }
      return parameters["w"].read()
    }
    let whole = try run(nil)
    #expect(try run(2048) == whole)
    #expect(whole.allSatisfy { abs($0) > 1e-6 })
  }

  /// Moments in 8 bits: each step's size errs by the roots' 2% and the means' 1/254 of the block's largest.
  @Test func eightBitMomentsStayCloseToTheTextbook() throws {
    let engine = try Engine(threads: 1, device: testDevice), n = 700
    var random = SeededRandom(seed: 4)
    let start = (0..<n).map { _ in random.normal() }
    func run(_ eightBit: Bool) throws -> [Float] {
      let parameters = try Parameters([.init("w", [n])], engine, trainable: true)
      parameters["w"].write(start)
      var settings = AdamW.Settings()
      settings.eightBit = eightBit
      let optimiser = try AdamW(parameters, settings, engine)
      var random = SeededRandom(seed: 5)
      for _ in 0..<20 {
        // Gradients over four orders of magnitude.
        try #require(parameters.gradient("w")).write(
          (0..<n).map { i in (random.normal() + 1) * powf(10, -4 * Float(i) / Float(n)) })
        _ = try optimiser.update(learningRate: 0.01)
      }
      return parameters["w"].read()
    }
    let exact = try run(false), small = try run(true)
    let moved = zip(exact, start).map { abs($0 - $1) }.reduce(0, +),
      error = zip(exact, small).map { abs($0 - $1) }.reduce(0, +)
    #expect(moved > 20 && error < 0.08 * moved, "\(error) of \(moved)")
    for share in [1, 0.7, 0.01, 1e-4] as [Float] {
      #expect(abs(EightBitMoments.decode(EightBitMoments.encode(share)) / share - 1) < 0.04)
    }
  }

  @Test func clipsTheGlobalNorm() throws {
    let engine = try Engine(threads: 1, device: testDevice)
    let parameters = try Parameters([.init("w", [2]), .init("b", [1], decays: false)], engine, trainable: true)
    let optimiser = try AdamW(parameters, AdamW.Settings(), engine)
    try #require(parameters.gradient("w")).write([3, 4] as [Float])
    try #require(parameters.gradient("b")).write([12] as [Float])
    #expect(abs(try optimiser.update(learningRate: 0) - 13) < 1e-5)
    let first = try optimiser.state[0].values()
    #expect(abs(first[0] - 0.1 * 3 / 13) < 1e-6)
  }

  @Test func aGradientThatIsNotFiniteChangesNothing() throws {
    let engine = try Engine(threads: 1, device: testDevice)
    let parameters = try Parameters([.init("w", [2])], engine, trainable: true)
    parameters["w"].write([1, 2] as [Float])
    let optimiser = try AdamW(parameters, AdamW.Settings(), engine)
    try #require(parameters.gradient("w")).write([.nan, 0])
    #expect(throws: LadderError.self) { try optimiser.update(learningRate: 0.1) }
    #expect(parameters["w"].read() == [1, 2])
  }

  /// Gradients that stop: the first moment of every number falls below what a step of its scale can hold.
  @Test func eightBitMomentsOfAGradientThatEnds() throws {
    let engine = try Engine(threads: 1, device: testDevice)
    let parameters = try Parameters([.init("w", [256])], engine, trainable: true)
    var settings = AdamW.Settings()
    settings.eightBit = true
    let optimiser = try AdamW(parameters, settings, engine)
    parameters["w"].write([Float](repeating: 1, count: 256))
    try #require(parameters.gradient("w")).write((0..<256).map { Float($0) * 1e-5 })
    for _ in 0..<1500 { _ = try optimiser.update(learningRate: 1e-3) }
    #expect(parameters["w"].read().allSatisfy { $0.isFinite })
  }

  /// A state is kept as it is in memory; checkpoints of before hold 8-bit codes as F32 numbers.
  @Test func eightBitStateIsSavedInEightBits() throws {
    let engine = try Engine(threads: 1, device: testDevice), folder = try TemporaryFolder()
    var settings = AdamW.Settings()
    settings.eightBit = true
    func optimiser() throws -> (AdamW, Parameters) {
      let parameters = try Parameters([.init("w", [5000])], engine, trainable: true)
      return (try AdamW(parameters, settings, engine), parameters)
    }
    let (trained, parameters) = try optimiser()
    var random = SeededRandom(seed: 3)
    try #require(parameters.gradient("w")).write((0..<5000).map { _ in random.normal() })
    _ = try trained.update(learningRate: 1e-3)

    var file = Safetensors(), earlier = Safetensors()
    for (index, entry) in trained.state.enumerated() {
      file.tensors["moments.\(index)"] = entry
      earlier.tensors["moments.\(index)"] = .init(shape: entry.shape, values: try entry.values())
    }
    try file.write(folder.file("state"))
    try earlier.write(folder.file("earlier"))
    #expect(try Data(contentsOf: URL(fileURLWithPath: folder.file("state"))).count < 11_500)
    for name in ["state", "earlier"] {
      let read = try Safetensors(path: folder.file(name))
      let (restored, _) = try optimiser()
      try restored.restore((0..<4).map { try #require(read.tensors["moments.\($0)"]) }, step: 1)
      for (mine, other) in zip(trained.state, restored.state) { #expect(try mine.values() == other.values()) }
    }
  }
}

@Suite struct WeightAverageTests {
  /// Networks of many numbers, which are taken in part by part, some rows longer than others.
  @Test(arguments: [[3_000_001], [900, 2500], [2_100_000, 2]]) func meanOfManyNumbers(_ shape: [Int]) throws {
    let engine = try Engine(threads: 2, device: testDevice), count = shape.reduce(1, *)
    let parameters = try Parameters([.init("w", shape), .init("b", [7], decays: false)], engine, trainable: true)
    let average = try WeightAverage(parameters, engine)
    for step in 1...3 {
      parameters["w"].write((0..<count).map { Float($0 % 1000) * Float(step) })
      parameters["b"].write([Float](repeating: Float(step), count: 7))
      try average.add()
    }
    average.used {
      let values = parameters["w"].read()
      #expect(values.indices.allSatisfy { abs(values[$0] - Float($0 % 1000) * 2) < 1e-3 })
      #expect(parameters["b"].read().allSatisfy { abs($0 - 2) < 1e-6 })
    }
    #expect(parameters["b"].read() == [Float](repeating: 3, count: 7))
  }
}

@Suite struct FileSetTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func write(_ text: String, _ folder: String) throws {
    for name in ["a", "b"] { try DurableFile.write("\(folder)/\(name)", [Data((name + text).utf8)]) }
  }

  private func contents() throws -> [String] {
    try ["a", "b"].map { try String(contentsOfFile: folder.file("set/\($0)"), encoding: .utf8) }
  }

  @Test func filesChangeTogether() throws {
    let set = folder.file("set")
    try FileSet.write(in: set) { try write("1", $0) }
    #expect(try contents() == ["a1", "b1"])
    struct Stop: Error {}
    #expect(throws: Stop.self) {
      try FileSet.write(in: set) {
        try DurableFile.write($0 + "/a", [Data("a2".utf8)])
        throw Stop()
      }
    }
    #expect(try contents() == ["a1", "b1"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: set).sorted() == ["a", "b"])
  }

  /// Killed once all were whole and one was in its place, or before all were whole.
  @Test func whatAKilledProcessLeft() throws {
    let set = folder.file("set")
    try FileSet.write(in: set) { try write("1", $0) }
    try DurableFile.makeFolder(set + "/files.new")
    try DurableFile.write(set + "/a", [Data("a2".utf8)])
    try DurableFile.write(set + "/files.new/b", [Data("b2".utf8)])
    #expect(FileSet.current("b", in: set) == set + "/files.new/b" && FileSet.current("a", in: set) == set + "/a")
    try FileSet.settle(set)
    #expect(try contents() == ["a2", "b2"])

    try DurableFile.makeFolder(set + "/files.tmp")
    try DurableFile.write(set + "/files.tmp/a", [Data("a3".utf8)])
    try FileSet.settle(set)
    #expect(try contents() == ["a2", "b2"])
    #expect(try FileManager.default.contentsOfDirectory(atPath: set).sorted() == ["a", "b"])
  }
}
