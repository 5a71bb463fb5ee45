import Foundation
import LadderCompute
import LadderCore

/// Problems of k arithmetic steps, each on the result of the one before, from left to right and modulo a prime.
///
///     Modulo 5: 4+2*3
///     Answer: 4+2=1 1*3=3 #### 3
///
/// Sums and products take turns at random, so that the steps can't be reordered; no factor is 0, so that none loses
/// information.
public struct StepProblem: Sendable, Hashable, DepthProblem {
  /// How much of the way is written out before the answer.
  public enum Written: String, Sendable, Codable, CaseIterable {
    /// The answer alone.
    case none
    /// Two steps at a time.
    case half
    /// One step at a time.
    case all

    /// Steps that one written equation takes; nil writes none.
    var stride: Int? {
      switch self {
      case .none: nil
      case .half: 2
      case .all: 1
      }
    }
  }

  public var modulus: Int
  public var start: Int
  public var steps: [Step]

  public struct Step: Sendable, Hashable {
    public var operation: Character
    public var operand: Int

    func apply(_ value: Int, modulus: Int) -> Int { (operation == "+" ? value + operand : value * operand) % modulus }
    var text: String { "\(operation)\(operand)" }
  }

  var depth: Int { steps.count }

  /// The primes that a digit stays below.
  static let moduli = [3, 5, 7]

  /// Different steps: adding 1 … m − 1, and taking 2 … m − 1 times.
  private static func kinds(_ modulus: Int) -> Int { 2 * modulus - 3 }

  /// Draws a problem of `count` steps.
  init(steps count: Int, modulus: Int, _ random: inout SeededRandom) {
    func draw(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
    self.modulus = modulus
    start = draw(modulus)
    steps = (0..<count).map { _ in
      let kind = draw(Self.kinds(modulus))
      return kind < modulus - 1
        ? Step(operation: "+", operand: 1 + kind) : Step(operation: "*", operand: kind - modulus + 3)
    }
  }

  /// The result of each step.
  public var results: [Int] {
    var value = start
    return steps.map { step in
      value = step.apply(value, modulus: modulus)
      return value
    }
  }

  public var prompt: String { "Modulo \(modulus): \(start)\(steps.map(\.text).joined())\nAnswer:" }

  public func completion(_ written: Written) -> String {
    let values = [start] + results
    var text = ""
    if let stride = written.stride {
      for first in Swift.stride(from: 0, to: steps.count, by: stride) {
        let part = first..<min(first + stride, steps.count)
        text += " \(values[first])\(steps[part].map(\.text).joined())=\(values[part.upperBound])"
      }
    }
    return text + " #### \(values[steps.count])"
  }

  /// A line of a JSONL file.
  func line(_ written: Written) throws -> Data {
    let sample = ["prompt": prompt, "completion": completion(written), "answer": String(results.last ?? start)]
    return try JSONSerialization.data(withJSONObject: sample, options: [.sortedKeys]) + Data("\n".utf8)
  }

  /// Different problems of 1…`deepest` steps, `each` of every depth where there are as many, none of them in `known`.
  /// - Parameter share: the most that is taken of all problems of one depth.
  static func draw(
    _ each: Int, deepest: Int, modulus: Int, seed: UInt64, share: Double = 1, except known: Set<StepProblem> = []
  ) -> [StepProblem] {
    var random = SeededRandom(seed: seed, 41), taken = known
    return (1...deepest).flatMap { depth in
      let all = Double(modulus) * pow(Double(kinds(modulus)), Double(depth)),
        wanted = min(each, max(1, Int(min(1e6, share * all))))
      return different(wanted, &taken) { StepProblem(steps: depth, modulus: modulus, &random) }
    }
  }
}
