import Foundation
import LadderCompute
import LadderCore

/// Links between letters, in any order, and how many to follow: k look-ups, each of what the one before has found.
///
///     c>a
///     b>d
///     a>b
///     d>c
///     2 hops: c>b
///
/// The links form one circle, so that each letter is as likely an answer as any other; following them backwards is no
/// shorter while k is at most half the letters. (k-hop induction: Sanford, Hsu and Telgarsky, ICML 2024.)
struct HopProblem: Sendable, Hashable, DepthProblem {
  /// Where each letter's link leads: letter i, from `a`, to letter `links[i]`.
  var links: [Int]
  /// The order in which the links stand in the prompt.
  var order: [Int]
  var start: Int
  /// k.
  var depth: Int

  /// The letters that circles may have.
  static let letters = 4...26

  private static func letter(_ index: Int) -> String { String(UnicodeScalar(UInt8(ascii: "a") + UInt8(index))) }

  var prompt: String {
    let lines = order.map { "\(Self.letter($0))>\(Self.letter(links[$0]))\n" }.joined()
    return lines + "\(depth) hop\(depth == 1 ? "" : "s"): \(Self.letter(start))>"
  }

  var answer: String { Self.letter((0..<depth).reduce(start) { at, _ in links[at] }) }

  /// A line of a JSONL file: the answer alone, all letters as its choices.
  func line(_ written: StepProblem.Written) throws -> Data {
    let sample: [String: Any] = [
      "prompt": prompt, "completion": answer, "choices": links.indices.map(Self.letter),
    ]
    return try JSONSerialization.data(withJSONObject: sample, options: [.sortedKeys]) + Data("\n".utf8)
  }

  /// Draws a problem of `depth` hops over this many letters.
  init(letters: Int, depth: Int, _ random: inout SeededRandom) {
    func shuffled(_ random: inout SeededRandom) -> [Int] {
      var all = Array(0..<letters)
      for i in stride(from: letters - 1, to: 0, by: -1) { all.swapAt(i, Int(random.next() % UInt64(i + 1))) }
      return all
    }
    let circle = shuffled(&random)
    links = Array(repeating: 0, count: letters)
    for (at, letter) in circle.enumerated() { links[letter] = circle[(at + 1) % letters] }
    order = shuffled(&random)
    start = Int(random.next() % UInt64(letters))
    self.depth = depth
  }

  /// Different problems of 1…`deepest` hops, `each` of every depth where there are as many, none of them in `known`.
  static func draw(
    _ each: Int, deepest: Int, letters: Int, seed: UInt64, except known: Set<HopProblem> = []
  ) -> [HopProblem] {
    var random = SeededRandom(seed: seed, 43), taken = known
    return (1...deepest).flatMap { depth in
      different(each, &taken) { HopProblem(letters: letters, depth: depth, &random) }
    }
  }
}
