import Foundation
import LadderCore
import Testing

@testable import LadderCompute

/// The oracle for gradients: central differences of Σ c∘y in F32.
struct Differences {
  let engine: Engine
  let pool: TensorPool

  init() throws {
    // As `testDevice` of the other tests.
    let device = ProcessInfo.processInfo.environment["LADDER_TEST_DEVICE"] ?? "CPU"
    engine = try Engine(threads: 2, device: device)
    pool = TensorPool(engine)
  }

  /// How far results of the same sums in another order may be: on an accelerator in half precision.
  var closeness: Float { engine.isCPU ? 1e-5 : 2e-2 }

  func random(_ shape: [Int], seed: Int, scale: Float = 1) throws -> Tensor {
    var random = SeededRandom(seed: 1, seed)
    return try pool.make((0..<shape.reduce(1, *)).map { _ in random.normal() * scale }, shape)
  }

  /// Checks the tape's gradient of every input against central differences of step `h`.
  ///
  /// F32 sums of about a hundred terms err by 1e-6; divided by 2h = 0.02 that is 1e-4, and h² adds as much for these
  /// curvatures. An accelerator may multiply in half precision, whose 1e-3 asks for a larger step and tolerance.
  func check(
    _ inputs: [Tensor], h: Float = 1e-2, tolerance: Float = 4e-3, sourceLocation: SourceLocation = #_sourceLocation,
    _ function: (Tape, [Tensor]) throws -> Tensor
  ) throws {
    let usual = engine.usesDenseProducts
    defer { engine.usesDenseProducts = usual }
    // By ggml's products and, where the processor has them, by ours.
    for dense in engine.isCPU && DenseProduct.isAvailable ? [false, true] : [false] {
      engine.usesDenseProducts = dense
      try checkOnce(inputs, h: h, tolerance: tolerance, sourceLocation: sourceLocation, function)
    }
  }

  private func checkOnce(
    _ inputs: [Tensor], h: Float, tolerance: Float, sourceLocation: SourceLocation,
    _ function: (Tape, [Tensor]) throws -> Tensor
  ) throws {
    let (h, tolerance) = engine.isCPU ? (h, tolerance) : (10 * h, 10 * tolerance)
    let graph = try Graph(engine)
    var weights: Tensor?
    func value() throws -> Float {
      graph.reset()
      let y = try function(Tape(graph), inputs)
      let c = try weights ?? random(y.shape, seed: 99)
      weights = c
      let kept = graph.keep(graph.contiguous(graph.multiply(y, c)))
      try graph.compute()
      return Float(kept.read().reduce(0.0) { $0 + Double($1) })
    }
    _ = try value()

    graph.reset()
    let tape = Tape(graph)
    inputs.forEach(tape.watch)
    let y = try function(tape, inputs)
    tape.backward(from: y, gradient: try #require(weights))
    let nodes = inputs.map { input in tape.gradient(of: input).map { graph.keep(graph.contiguous($0)) } }
    try graph.compute()
    let gradients = nodes.map { $0?.read() }
    for (index, input) in inputs.enumerated() {
      let gradient = try #require(gradients[index], "input \(index) has no gradient", sourceLocation: sourceLocation)
      var values = input.read()
      let largest = gradient.map(abs).max() ?? 0
      for i in stride(from: 0, to: values.count, by: max(1, values.count / 24)) {
        let x = values[i]
        values[i] = x + h
        input.write(values)
        let above = try value()
        values[i] = x - h
        input.write(values)
        let below = try value()
        values[i] = x
        input.write(values)
        let numeric = (above - below) / (2 * h)
        #expect(
          abs(numeric - gradient[i]) <= tolerance * (1 + largest),
          "input \(index)[\(i)]: \(gradient[i]) against \(numeric)",
          sourceLocation: sourceLocation)
      }
    }
  }
}
