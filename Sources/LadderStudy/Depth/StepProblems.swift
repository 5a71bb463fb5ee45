import Foundation
import LadderCompute

/// Problems of k arithmetic steps, each on the result of the one before: a lone digit, modulo ten.
///
///     Modulo 10. Start with 7. Then +4, *3, -5.
///     Answer: 1 3 8 #### 8
public struct StepProblem: Sendable, Hashable {
  /// How much of the way is written out before the answer.
  public enum Written: String, Sendable, Codable, CaseIterable {
    /// The answer alone.
    case none
    /// Every second result.
    case half
    case all
  }

  public var start: Int
  public var steps: [Step]

  public struct Step: Sendable, Hashable {
    public var operation: Character
    public var operand: Int

    func apply(_ value: Int) -> Int {
      switch operation {
      case "+": (value + operand) % 10
      case "-": (value - operand + 10) % 10
      default: value * operand % 10
      }
    }
  }

  /// Draws a problem of `count` steps. Factors are 3, 7 and 9: they lose no information modulo ten.
  init(steps count: Int, _ random: inout SeededRandom) {
    func draw(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
    start = draw(10)
    steps = (0..<count).map { _ in
      switch draw(3) {
      case 0: Step(operation: "+", operand: 1 + draw(9))
      case 1: Step(operation: "-", operand: 1 + draw(9))
      default: Step(operation: "*", operand: [3, 7, 9][draw(3)])
      }
    }
  }

  /// The result of each step.
  public var results: [Int] {
    var value = start
    return steps.map { step in
      value = step.apply(value)
      return value
    }
  }

  public var prompt: String {
    "Modulo 10. Start with \(start). Then \(steps.map { "\($0.operation)\($0.operand)" }.joined(separator: ", ")).\nAnswer:"
  }

  public func completion(_ written: Written) -> String {
    let results = results
    let shown =
      switch written {
      case .none: [Int]()
      case .half: results.enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
      case .all: results
      }
    return shown.map { " \($0)" }.joined() + " #### \(results.last ?? start)"
  }

  /// A line of a JSONL file.
  func line(_ written: Written) throws -> Data {
    let sample = ["prompt": prompt, "completion": completion(written), "answer": String(results.last ?? start)]
    return try JSONSerialization.data(withJSONObject: sample, options: [.sortedKeys]) + Data("\n".utf8)
  }

  /// Different problems of 1…`deepest` steps, `each` of every depth where there are as many, none of them in `known`.
  static func draw(_ each: Int, deepest: Int, seed: UInt64, except known: Set<StepProblem> = []) -> [StepProblem] {
    var random = SeededRandom(seed: seed, 41), taken = known
    return (1...deepest).flatMap { depth in
      // Of one step there are only 210 problems: some depths may stay short.
      var found: [StepProblem] = []
      for _ in 0..<(20 * each) where found.count < each {
        let problem = StepProblem(steps: depth, &random)
        if taken.insert(problem).inserted { found.append(problem) }
      }
      return found
    }
  }
}
