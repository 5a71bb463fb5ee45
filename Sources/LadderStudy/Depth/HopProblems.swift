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

  private static func shuffled(_ count: Int, _ random: inout SeededRandom) -> [Int] {
    var all = Array(0..<count)
    for i in stride(from: count - 1, to: 0, by: -1) { all.swapAt(i, Int(random.next() % UInt64(i + 1))) }
    return all
  }

  /// The links of a circle through all letters.
  private static func circle(_ letters: Int, _ random: inout SeededRandom) -> [Int] {
    let order = shuffled(letters, &random)
    var links = Array(repeating: 0, count: letters)
    for (at, letter) in order.enumerated() { links[letter] = order[(at + 1) % letters] }
    return links
  }

  /// Draws a problem of `depth` hops along these links.
  init(links: [Int], depth: Int, _ random: inout SeededRandom) {
    self.links = links
    order = Self.shuffled(links.count, &random)
    start = Int(random.next() % UInt64(links.count))
    self.depth = depth
  }

  /// Different problems of 1…`deepest` hops, so many of every depth where there are as many. A circle is learned from
  /// or judged on, never both: of few letters there are few circles, and their answers could be known by heart. Of all
  /// circles a fifth at most is judged on.
  static func draw(
    train: Int, dev: Int, deepest: Int, letters: Int
  ) -> (train: [HopProblem], dev: [HopProblem]) {
    var random = SeededRandom(seed: 1, 43)
    // (n − 1)! circles, of more than ten letters more than are ever drawn.
    let circles = (1..<min(letters, 11)).reduce(1, *), most = max(1, min(dev, circles / 5))
    var apart: [[Int]] = [], known: Set<[Int]> = []
    while apart.count < most {
      let links = circle(letters, &random)
      if known.insert(links).inserted { apart.append(links) }
    }
    var taken: Set<HopProblem> = []
    func drawn(_ each: Int, _ links: (inout SeededRandom) -> [Int]) -> [HopProblem] {
      (1...deepest).flatMap { depth in
        different(each, &taken) { HopProblem(links: links(&random), depth: depth, &random) }
      }
    }
    let judged = drawn(dev) { apart[Int($0.next() % UInt64(apart.count))] }
    let learned = drawn(train) { random in
      while true {
        let links = circle(letters, &random)
        if !known.contains(links) { return links }
      }
    }
    return (learned, judged)
  }
}
