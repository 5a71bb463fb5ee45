import Foundation
import LadderCompute
import LadderCore
import Testing

@testable import LadderStudy

@Suite struct PowerLawTests {
  @Test func aKnownLawIsFoundAgain() throws {
    let computes = (0..<12).map { 1e12 * pow(1.8, Double($0)) }
    let exact = try #require(PowerLaw(computes.map { ($0, 40 * pow($0, -0.12) + 0.9) }))
    #expect(abs(exact.b - 0.12) < 0.002 && abs(exact.c - 0.9) < 0.02 && exact.residual < 1e-6)
    var random = SeededRandom(seed: 3)
    let noisy = try #require(
      PowerLaw(computes.map { ($0, 40 * pow($0, -0.12) + 0.9 + 0.005 * Double(random.normal())) }))
    let low = try #require(noisy.low), high = try #require(noisy.high)
    // Three points are gone through, which says nothing of where others would lie.
    let three = try #require(PowerLaw(computes.prefix(3).map { ($0, 40 * pow($0, -0.12) + 0.9) }))
    #expect(three.low == nil && three.high == nil)
    #expect(low <= 0.12 && high >= 0.12 && low < high, "\(noisy)")
  }

  /// Each budget has a best size, and the least losses follow a law.
  @Test func leastLossesOfBudgetsAreFound() throws {
    var random = SeededRandom(seed: 5)
    func points(_ method: String, _ slope: Double, noise: Double) -> [ScalingStudy.Point] {
      [1.0, 3, 10, 30].flatMap { budget in
        [1e5, 3e5, 1e6, 3e6, 1e7].map { size in
          let best = 5e5 * pow(budget, 0.5), away = log(size / best)
          let loss = 1.5 * pow(budget, slope) + 0.02 * away * away + noise * Double(random.normal())
          return .init(
            method: method, size: "s", samples: 1, tokens: 1, compute: 1e12 * budget, loss: loss, seconds: 1,
            parameters: Int(size), budget: budget)
        }
      }
    }
    let exact = ScalingStudy.findings(points("lst", -0.1, noise: 0))
    for minimum in try #require(exact.minima) {
      #expect(minimum.isInside && abs(minimum.loss - 1.5 * pow(minimum.budget, -0.1)) < 1e-6)
      #expect(abs(minimum.parameters / (5e5 * pow(minimum.budget, 0.5)) - 1) < 1e-6)
    }
    #expect(abs((exact.slopes?["lst"]?.value ?? 0) + 0.1) < 1e-6)
    let both = ScalingStudy.findings(points("lst", -0.1, noise: 0.003) + points("qlora", -0.2, noise: 0.003))
    for (method, slope) in [("lst", -0.1), ("qlora", -0.2)] {
      let found = try #require(both.slopes?[method])
      #expect(found.low <= slope && slope <= found.high && found.high - found.low < 0.05, "\(method): \(found)")
    }
    #expect(both.slopesOverlap == false)
    #expect(ScalingStudy.sizeChart(both, "lst")?.svg().contains("30 TFLOP") == true)
  }

  @Test func tooFewPointsHaveNoLaw() {
    #expect(PowerLaw([(1, 2), (2, 1)]) == nil)
    #expect(PowerLaw([(1, 2), (1, 1), (1, 3)]) == nil)
  }

  @Test func overlappingSlopesAreReported() {
    func points(_ method: String, _ b: Double) -> [ScalingStudy.Point] {
      (0..<8).map { i in
        let compute = 1e12 * pow(2, Double(i))
        return .init(
          method: method, size: "s", samples: 1, tokens: 1, compute: compute,
          loss: 30 * pow(compute, -b) + 0.5 + (i % 2 == 0 ? 0.01 : -0.01), seconds: 1)
      }
    }
    #expect(ScalingStudy.findings(points("lst", 0.1) + points("qlora", 0.1)).slopesOverlap == true)
    let apart = ScalingStudy.findings(points("lst", 0.1) + points("qlora", 0.9))
    #expect(ScalingStudy.chart(apart).svg().components(separatedBy: "<polyline").count == 3)
  }
}
