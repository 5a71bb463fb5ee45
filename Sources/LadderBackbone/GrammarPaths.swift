import LadderCore

/// How many places of a grammar a sampler may stand at together. llama.cpp keeps a stack for each, compares each new one
/// with all others, and follows a rule that begins with itself behind what may be empty for ever.
struct GrammarPaths {
  /// Comparisons of one token at most: some tenths of a second.
  static let mostComparisons = 1e8

  private typealias Symbol = GrammarReader.Symbol
  private let rules: [[GrammarReader.Alternative]]
  private var isEmpty: [Bool]
  /// Whether all of an alternative may be left out from a symbol on.
  private var ends: [[[Bool]]] = []

  init(_ rules: [[GrammarReader.Alternative]]) {
    self.rules = rules
    isEmpty = [Bool](repeating: false, count: rules.count)
    var changes = true
    while changes {
      changes = false
      for rule in rules.indices where !isEmpty[rule] && rules[rule].contains(where: { $0.allSatisfy(mayBeEmpty) }) {
        isEmpty[rule] = true
        changes = true
      }
    }
    ends = rules.map {
      $0.map { alternative in
        var all = [Bool](repeating: true, count: alternative.count + 1)
        for index in alternative.indices.reversed() { all[index] = all[index + 1] && mayBeEmpty(alternative[index]) }
        return all
      }
    }
  }

  private func mayBeEmpty(_ symbol: Symbol) -> Bool {
    switch symbol.kind {
    case .letters(let letters): symbol.isOptional || letters.isEmpty
    case .rule(let rule): symbol.isOptional || isEmpty[rule]
    }
  }

  /// - Throws: `usage` for a grammar whose rules begin with themselves, or that would take too long at some token.
  func check() throws(LadderError) {
    guard let order = order() else {
      throw LadderError(.usage, "a rule of the grammar begins with itself, or behind what may be empty")
    }
    func tooMany() -> LadderError {
      LadderError(.usage, "the grammar can go on in too many ways at once")
    }
    // Texts that stand in the grammar once: of those that may come at one place, one is written.
    var texts: [[UInt32]: Int] = [:]
    for symbol in rules.joined().joined() {
      if case .letters(let letters) = symbol.kind { texts[letters, default: 0] += 1 }
    }
    // Places first, then of each place those that come behind it.
    guard let places = Counts(self, order, most: Self.mostComparisons.squareRoot(), weight: { _ in 1 }),
      let behind = Counts(
        self, order, most: Self.mostComparisons,
        weight: { $0.letters.count > 1 && texts[$0.letters] == 1 ? 1 : places.behind($0) }),
      places.most * (behind.most + places.most) <= Self.mostComparisons
    else { throw tooMany() }
  }

  /// Rules by what they begin with, those that begin with none first; nil where one begins with itself.
  private func order() -> [Int]? {
    var result: [Int] = [], state = [UInt8](repeating: 0, count: rules.count)
    let first = rules.map { alternatives in
      alternatives.flatMap { alternative -> [Int] in
        let end = alternative.firstIndex { !mayBeEmpty($0) } ?? alternative.count - 1
        return alternative.prefix(end + 1).compactMap { if case .rule(let rule) = $0.kind { rule } else { nil } }
      }
    }
    for start in rules.indices where state[start] == 0 {
      // By a list and not by calls: a chain of rules may be long.
      var open = [(rule: start, next: 0)]
      state[start] = 1
      while let last = open.last {
        guard last.next < first[last.rule].count else {
          state[last.rule] = 2
          result.append(last.rule)
          open.removeLast()
          continue
        }
        open[open.count - 1].next += 1
        let rule = first[last.rule][last.next]
        if state[rule] == 1 { return nil }
        if state[rule] == 0 {
          state[rule] = 1
          open.append((rule, 0))
        }
      }
    }
    return result
  }

  // MARK: - Counting

  /// A symbol of letters, and where it stands.
  struct Place {
    let rule, alternative, index: Int
    let letters: [UInt32]
  }

  /// Sums over the letters that may come next, at the grammar's start and behind any letter.
  private struct Counts {
    private let paths: GrammarPaths
    /// Of each rule: what it may begin with, and the most that may come behind it.
    private var first: [Double], follow: [Double]
    /// What may come where an alternative has come to a symbol, and behind one.
    private var rest: [[[Double]]]
    private(set) var most = 0.0
    private let limit: Double

    /// Rules within rules, each of which adds what may come behind it: deeper texts are rare.
    private static let levels = 256

    /// - Returns: nil where there are more than `limit`.
    init?(_ paths: GrammarPaths, _ order: [Int], most limit: Double, weight: (Place) -> Double) {
      self.paths = paths
      self.limit = limit
      first = [Double](repeating: 0, count: paths.rules.count)
      follow = first
      rest = paths.rules.map { $0.map { [Double](repeating: 0, count: $0.count + 1) } }
      for rule in order { first[rule] = begin(rule, weight) }
      // Rests of rules that others begin with are known by now; all others too.
      for rule in order { _ = begin(rule, weight) }
      for _ in 0..<Self.levels {
        var changes = false
        for (rule, alternatives) in paths.rules.enumerated() {
          for (number, alternative) in alternatives.enumerated() {
            for (index, symbol) in alternative.enumerated() {
              let next = behind(rule, number, index)
              guard next <= limit else { return nil }
              most = max(most, next)
              if case .rule(let inner) = symbol.kind, next > follow[inner] {
                follow[inner] = next
                changes = true
              }
            }
          }
        }
        if !changes { break }
      }
      most = max(most, first.max() ?? 0)
      if most > limit { return nil }
    }

    /// What a rule may begin with; remembers what each of its rests may.
    private mutating func begin(_ rule: Int, _ weight: (Place) -> Double) -> Double {
      var sum = 0.0
      for (number, alternative) in paths.rules[rule].enumerated() {
        for index in alternative.indices.reversed() {
          let own = single(alternative[index], (rule, number, index), weight)
          rest[rule][number][index] =
            min(own + (paths.mayBeEmpty(alternative[index]) ? rest[rule][number][index + 1] : 0), 2 * limit)
        }
        sum += rest[rule][number][0]
      }
      return min(sum, 2 * limit)
    }

    private func single(_ symbol: Symbol, _ place: (Int, Int, Int), _ weight: (Place) -> Double) -> Double {
      switch symbol.kind {
      case .letters(let letters):
        let own =
          letters.isEmpty ? 0 : weight(Place(rule: place.0, alternative: place.1, index: place.2, letters: letters))
        return symbol.wasOptional ? own * Double(symbol.times) : own
      case .rule(let rule):
        return symbol.wasOptional || paths.isEmpty[rule] ? first[rule] * Double(symbol.times) : first[rule]
      }
    }

    func behind(_ place: Place) -> Double { behind(place.rule, place.alternative, place.index) }

    private func behind(_ rule: Int, _ number: Int, _ index: Int) -> Double {
      let alternative = paths.rules[rule][number]
      var sum = rest[rule][number][index + 1]
      if alternative[index].repeats {
        sum += rest[rule][number][index] - (paths.mayBeEmpty(alternative[index]) ? rest[rule][number][index + 1] : 0)
      }
      if paths.ends[rule][number][index + 1] { sum += follow[rule] }
      return sum
    }
  }
}
