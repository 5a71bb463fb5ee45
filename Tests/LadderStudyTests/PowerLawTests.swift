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
    #expect(noisy.low <= 0.12 && noisy.high >= 0.12 && noisy.low < noisy.high, "\(noisy)")
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
