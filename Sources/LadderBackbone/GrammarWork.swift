import LadderCore

/// What llama.cpp's parser of grammars would have to do: it repeats what is to be repeated, and follows a rule's first
/// symbols to every rule that they may lead to, by every way, and goes down a level of the stack for each bracket. All of
/// it may be more than any memory or patience for a few hundred bytes.
enum GrammarWork {
  /// Elements that bounds like `{0,2000}` ask for, all added up, and ways from one rule to others.
  static let mostRepeats = 20_000, mostWays = 1e6

  /// - Throws: `usage` for a grammar that cannot be read, or would take too long.
  static func check(_ grammar: String) throws(LadderError) {
    var reader = GrammarReader(Array(grammar.utf8))
    guard let rules = reader.read() else {
      throw LadderError(
        .usage,
        reader.isTooDeep
          ? "the grammar has more than \(GrammarReader.mostLevels) levels of brackets"
          : "the grammar cannot be read at \(reader.position)")
    }
    guard reader.repeats <= mostRepeats else {
      throw LadderError(.usage, "the grammar's bounds add up to \(reader.repeats) elements; \(mostRepeats) may be")
    }
    guard ways(rules) <= mostWays else {
      throw LadderError(.usage, "the grammar's rules lead to each other in too many ways")
    }
    try GrammarPaths(rules).check()
  }

  /// The most ways from one rule, as if each might begin with any of its symbols. A rule that leads back to itself adds
  /// one there.
  private static func ways(_ rules: [[GrammarReader.Alternative]]) -> Double {
    let references = rules.map { alternatives in
      alternatives.joined().compactMap { if case .rule(let rule) = $0.kind { rule } else { nil } }
    }
    var known = [Double?](repeating: nil, count: rules.count), most = 1.0
    for first in rules.indices where known[first] == nil {
      // By a list and not by calls: a chain of rules may be long.
      var open: [(rule: Int, next: Int, sum: Double)] = [(first, 0, 1)]
      known[first] = 1
      while let last = open.last {
        let all = references[last.rule]
        guard last.next < all.count else {
          known[last.rule] = last.sum
          most = max(most, last.sum)
          open.removeLast()
          if let above = open.indices.last { open[above].sum += last.sum }
          continue
        }
        open[open.count - 1].next += 1
        let reference = all[last.next]
        if let ways = known[reference] {
          open[open.count - 1].sum += ways
        } else {
          known[reference] = 1
          open.append((reference, 0, 1))
        }
      }
    }
    return most
  }
}
