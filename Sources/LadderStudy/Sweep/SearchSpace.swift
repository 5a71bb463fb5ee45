import LadderBackbone
import LadderCore
import LadderMethods
import LadderTrain

/// The options that a sweep chooses among, each with its values.
public struct SearchSpace: Codable, Sendable, Equatable {
  /// One option of `ladder train`, by its long name.
  public struct Dimension: Codable, Sendable, Equatable {
    public var name: String
    /// As users write them. Neighbours in the list are taken to be alike where `isOrdered`.
    public var values: [String]
    /// Which of the values is the default; nil where none is.
    public var start: Int?
    public var isOrdered: Bool

    public init(_ name: String, _ values: [String], start: Int? = nil, isOrdered: Bool = false) {
      self.name = name
      self.values = values
      self.start = start
      self.isOrdered = isOrdered
    }
  }

  /// What a candidate has chosen, by name; an option that has its default is left out.
  public typealias Choices = [String: String]

  public var dimensions: [Dimension]
  /// Recipes that have done well elsewhere, to be tried first.
  public var starts: [Choices] = []

  public init(_ dimensions: [Dimension]) { self.dimensions = dimensions }

  /// Reads a mapping of option to list of values.
  public init(_ values: [String: [String]]) throws(LadderError) {
    dimensions = []
    for (name, values) in values.sorted(by: { $0.key < $1.key }) {
      guard !values.isEmpty else { throw LadderError(.usage, "the search space has no value for `\(name)`") }
      guard name != "seed", name != "steps" else {
        throw LadderError(.usage, "`\(name)` is the sweep's own: leave it out of the search space")
      }
      let numbers = values.compactMap { Double($0) }
      dimensions.append(
        Dimension(name, values, isOrdered: numbers.count == values.count && (numbers == numbers.sorted())))
    }
    for dimension in dimensions {
      for value in dimension.values { _ = try options([dimension.name: value]) }
    }
  }

  /// The options that these choices stand for.
  /// - Throws: `usage` for a name or value that is none.
  public func options(_ choices: Choices) throws(LadderError) -> TrainingOptions {
    var options = TrainingOptions()
    for (name, value) in choices.sorted(by: { $0.key < $1.key }) { try options.set(name, to: value) }
    return options
  }

  /// What a sweep searches where it is told nothing: what moved results most in docs/ablations.md.
  /// - Parameters:
  ///   - base: options that are given are kept as they are.
  ///   - judgesChoices: whether every sample has choices.
  package init(_ base: TrainingOptions, on model: ModelOutline, judgesChoices: Bool) {
    var all: [Dimension] = [
      .init("learning-rate", ["1e-4", "3e-4", "6e-4", "1e-3", "2e-3", "3e-3"], start: 1, isOrdered: true),
      .init("batch-size", ["2", "4", "8", "16", "32"], start: 3, isOrdered: true),
      .init("epochs", ["1", "2", "3", "4"], start: 0, isOrdered: true),
      .init("average", ["0", "0.5", "0.9"], start: 0, isOrdered: true),
      .init("schedule", ["cosine", "constant"], start: 0),
    ]
    if base.method.method == .qlora {
      all += [
        .init("rank", ["4", "8", "16", "32", "64"], start: 2, isOrdered: true),
        .init("dropout", ["0", "0.05", "0.1"], start: 0, isOrdered: true),
      ]
      if judgesChoices { all.append(.init("objective", ["tokens", "choices"], start: 0)) }
    } else {
      all += Self.sideNetwork(model)
      if judgesChoices {
        all += [
          .init("objective", ["tokens", "choices"], start: 0),
          .init("tap-statistics", ["tokens", "answers"], start: 0),
          .init("output-bias", ["off", "on"], start: 0),
        ]
      }
    }
    // A run of so many steps, of a starting point, or of as many rungs as its depth, is what its user says it is.
    var given = Set(base.given.map(\.name))
    if given.contains("steps") { given.insert("epochs") }
    if given.contains("warm-start") { given.formUnion(["rungs", "reduction", "init", "output-bias", "rank"]) }
    if base.method.depth != nil { given.insert("rungs") }
    dimensions = all.filter { !given.contains($0.name) }
    if base.method.method != .qlora { starts = known(judgesChoices ? Self.forLabels(model) : Self.forText(model)) }
  }

  /// What did well on tasks with labels (docs/accuracy.md, docs/sweep.md).
  private static func forLabels(_ model: ModelOutline) -> [Choices] {
    let choices = ["objective": "choices", "output-bias": "on", "epochs": "2", "average": "0.5"]
    let pruned = choices.merging(["init": "backbone"]) { $1 }
    let later = rungs([11, 13, 15], of: model), one = rungs([8], of: model)
    return [
      pruned, choices, pruned.merging(["rungs": later]) { $1 },
      choices.merging(["rungs": one, "tap-statistics": "answers", "schedule": "constant", "average": "0.9"]) { $1 },
    ]
  }

  /// What did well on texts.
  private static func forText(_ model: ModelOutline) -> [Choices] {
    let small = ["batch-size": "2", "learning-rate": "1e-3", "init": "backbone"]
    return [small, small.merging(["epochs": "2"]) { $1 }, small.merging(["epochs": "2", "average": "0.5"]) { $1 }]
  }

  /// Those of the choices that are in the space, without what is the default.
  private func known(_ recipes: [Choices]) -> [Choices] {
    recipes.map { recipe in
      recipe.filter { name, value in
        dimensions.contains { dimension in
          dimension.name == name
            && dimension.values.firstIndex(of: value).map { $0 != dimension.start } ?? false
        }
      }
    }
  }

  private static func sideNetwork(_ model: ModelOutline) -> [Dimension] {
    let usual = min(model.width, max(256, model.width / 8) / 32 * 32)
    let widths = Set([32, 64, 128, usual, usual * 3 / 2 / 32 * 32]).filter { $0 <= model.width }.sorted()
    // A little less than the quotient: rounding down to a multiple of 32 ends at the width itself.
    let reductions = widths.map {
      max(1, (Double(model.width) / (Double($0) + 1) * 1000).rounded(.down) / 1000)
    }
    return [
      .init("rungs", ["middle"] + rungs(model), start: 0),
      .init(
        "reduction", reductions.map(\.optionText), start: widths.firstIndex(of: usual), isOrdered: true),
      .init("tap-dropout", ["0", "0.1", "0.2", "0.3", "0.5"], start: 2, isOrdered: true),
      .init("init", ["random", "backbone", "orthogonal"], start: 0),
    ]
  }

  /// Lists of blocks, few of them different, so that one cache holds them all.
  private static func rungs(_ model: ModelOutline) -> [String] {
    let eighteenths: [[Double]] = [
      [8], [11], [5, 7, 9, 11, 13], [9, 11, 13], [11, 13, 15], [5, 8, 11], [7, 9, 11, 13, 15, 17],
    ]
    var seen: Set<String> = []
    return eighteenths.map { rungs($0, of: model) }.filter { seen.insert($0).inserted }
  }

  /// Blocks at so many eighteenths of the model's height, as an option.
  private static func rungs(_ eighteenths: [Double], of model: ModelOutline) -> String {
    let places = eighteenths.map { min(model.blocks - 1, max(1, Int(($0 / 18 * Double(model.blocks)).rounded()))) }
    return SideConfiguration.Rungs.list(Set(places).sorted()).optionText
  }

  // MARK: - Drawing

  /// A candidate that is none of `known`: at random, or a change of one or two choices of `parent`.
  /// - Returns: nil where the space seems to have no other.
  func candidate(changing parent: Choices?, not known: Set<Choices>, using random: inout SeededRandom) -> Choices? {
    guard !dimensions.isEmpty else { return nil }
    for _ in 0..<64 {
      var choices = parent ?? [:]
      let count = parent == nil ? dimensions.count : Int.random(in: 1...2, using: &random)
      for dimension in dimensions.shuffled(using: &random).prefix(count) {
        let now =
          parent?[dimension.name].flatMap(dimension.values.firstIndex) ?? (parent == nil ? nil : dimension.start)
        let next = place(in: dimension, from: now, using: &random)
        choices[dimension.name] = next == dimension.start ? nil : dimension.values[next]
      }
      if !known.contains(choices) { return choices }
    }
    return nil
  }

  private func place(in dimension: Dimension, from now: Int?, using random: inout SeededRandom) -> Int {
    let count = dimension.values.count
    guard let now, count > 1 else { return Int.random(in: 0..<count, using: &random) }
    if dimension.isOrdered {
      let step = Bool.random(using: &random) ? 1 : -1
      return (0..<count).contains(now + step) ? now + step : now - step
    }
    let other = Int.random(in: 0..<(count - 1), using: &random)
    return other < now ? other : other + 1
  }
}
