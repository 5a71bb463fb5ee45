import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderEval
import LadderInference
import LadderMethods
import LadderTrain

/// A sweep on one model and its samples: keeps the model's activations of all blocks that may be read once, then trains
/// and judges candidates in this process, and at last trains the best.
public struct RecipeSearch: Sendable {
  /// What came out.
  public struct Result: Codable, Sendable {
    /// Every trial in order.
    public var trials: [Sweep.Trial]
    public var best: Sweep.Trial
    /// The defaults' best trial.
    public var defaults: Sweep.Trial?
    /// All options of the best run.
    public var options: TrainingOptions
    /// What it was trained on, as `--data` takes it.
    public var data: [String]
    /// The run's folder.
    public var run: String
    /// Samples learned from and judged by.
    public var trainSamples: Int
    public var judgedSamples: Int
    /// The part of the samples that the time allowed.
    public var share: Double
  }

  let backbone: Backbone
  let settings: Sweep.Settings
  /// What is measured of each candidate; never a generation, which takes long, unless it is asked for.
  let measured: Metric
  let sources: [DataSource]
  /// Samples to judge by; where there are none, or few, some of the others are parted off.
  let held: [DataSource]?
  let cache: CacheOptions
  let folder: SweepFolder

  /// - Parameters:
  ///   - space: nil searches what suits the samples.
  ///   - folder: where trials, the best run and findings go.
  public init(
    _ backbone: Backbone, budget: Double, base: TrainingOptions, space: SearchSpace? = nil, metric: Metric = .auto,
    train: [DataSource], judge: [DataSource]?, cache: CacheOptions, folder: String
  ) throws {
    guard budget >= 1, budget <= 1e7 else { throw LadderError(.usage, "`budget` must be a second or more") }
    self.backbone = backbone
    sources = train
    held = judge
    self.cache = cache
    self.folder = SweepFolder(path: folder)
    let samples = try Sample.load(train, seed: base.seed ?? 0)
    let suited = LadderModel.metric(for: samples)
    var settings = Sweep.Settings(
      space: space ?? SearchSpace(base, on: backbone.outline, judgesChoices: suited == .choice))
    settings.budget = budget
    settings.base = base
    settings.metric = metric
    self.settings = settings
    measured = metric != .auto ? metric : suited == .exact ? .loss : suited
    // What no candidate could be trained with is told before anything runs.
    _ = try settings.space.options([:]).over(base).configuration().validate()
    for dimension in settings.space.dimensions where base.given.contains(where: { $0.name == dimension.name }) {
      throw LadderError(.usage, "`\(dimension.name)` is in the search space and given too: take it out of one of them")
    }
  }

  /// Searches, or goes on with what the folder holds, and trains the best.
  /// - Parameters:
  ///   - report: called with what is told on the way.
  ///   - training: called with the events of the last run.
  public func run(
    report: (Sweep.Event) -> Void = { _ in }, training show: (TrainingEvent) -> Void = { _ in }
  ) throws(LadderError) -> Result {
    try LadderError.unify { try search(report, show) }
  }

  private func search(_ report: (Sweep.Event) -> Void, _ show: (TrainingEvent) -> Void) throws -> Result {
    let seed = settings.base.seed ?? 0, began = ContinuousClock.now
    let lock = try FolderLock(folder.path, "sweeping", option: "out")
    defer { withExtendedLifetime(lock) {} }
    let named = try checksums()
    backbone.language.use(try settings.base.configuration().chat)
    var claim =
      try folder.earlier(settings, model: backbone.fingerprint, samples: named)
      ?? SweepFolder.Claim(settings: settings, model: backbone.fingerprint, samples: named, share: 1, preparation: 0)
    var parts = try parts(share: claim.share, seed)
    if claim.preparation == 0 {
      if var filling = try filling(parts) {
        claim.share = try affordable(parts, filling, report)
        if claim.share < 1 {
          parts = try self.parts(share: claim.share, seed)
          filling = try self.filling(parts) ?? filling
        }
        try filling.fill { report(.stage("keeping the model's activations: \($0) of \($1) samples")) }
      }
      claim.preparation = (ContinuousClock.now - began).seconds
      try folder.claim(claim)
    }
    let trainer = CandidateTrainer(
      backbone: backbone, train: parts.train, judge: parts.judge, cache: cacheForTrials, metric: measured)
    // A seventh is for the last run.
    var own = settings
    own.budget = max(settings.budget * 0.1, settings.budget * 6 / 7 - claim.preparation)
    var trials = try folder.trials()
    // What ended in its time does not go on where the times that are known by now would allow one trial more.
    if settings.budget > claim.searched ?? 0 || Sweep.best(trials) == nil {
      trials = try Sweep(own, folder, trainer).run(report: report)
      claim.searched = settings.budget
      try folder.claim(claim)
    }
    guard let best = Sweep.best(trials) else { throw LadderError(.data, "no candidate could be trained") }

    let options = try Sweep.options(best, among: trials, settings)
    let final = scaled(claim.share), samples = try Sample.load(final, seed: seed)
    report(.stage("training the best on \(samples.count) samples"))
    let run = RunDirectory(folder.best)
    var known = try? run.manifest()
    let configuration = try options.configuration()
    if let other = known, other.configuration != configuration {
      try? FileManager.default.removeItem(atPath: run.path)
      known = nil
    }
    if known?.finished != true {
      let cache = configuration.method.keepsActivations ? cacheForTrials : nil
      try Trainer(backbone, configuration, cache: cache).train(
        samples, name: final.map(\.description).joined(separator: ", "), into: run,
        resume: known != nil, report: show)
    }
    let result = Result(
      trials: trials, best: best, defaults: Sweep.best(trials.filter(\.choices.isEmpty)),
      options: options, data: final.map(\.description), run: folder.best, trainSamples: parts.train.count,
      judgedSamples: parts.judge.count, share: claim.share)
    try folder.write("table.md", SweepTable.markdown(trials))
    try DurableFile.write(folder.path + "/result.json", json: result)
    return result
  }

  /// Nil where the method changes what it reads at every step.
  private var cacheForTrials: CacheOptions? {
    (try? settings.base.method.chosen())?.keepsActivations == true ? cache : nil
  }

  // MARK: - Samples

  /// Samples that tell recipes apart whose losses differ by what counts.
  private static let enoughToJudge = 1000

  private struct Parts {
    var train: [Sample]
    var judge: [Sample]
  }

  private func parts(share: Double, _ seed: UInt64) throws -> Parts {
    let samples = try Sample.load(scaled(share), seed: seed)
    guard let held else {
      guard let split = samples.split(min(0.2, max(0.1, 200 / Double(samples.count))), seed: seed) else {
        throw LadderError(.data, "the samples cannot be parted into some to learn and some to judge by: pass `valid`")
      }
      return Parts(train: split.kept, judge: split.apart)
    }
    // Few samples choose by chance: as many again are parted off beside them.
    let judge = try Sample.load(held, seed: seed), more = min(judge.count, Self.enoughToJudge - judge.count)
    guard more > 0, let split = samples.split(min(0.1, Double(more) / Double(samples.count)), seed: seed) else {
      return Parts(train: samples, judge: judge)
    }
    return Parts(train: split.kept, judge: judge + split.apart)
  }

  private func scaled(_ share: Double) -> [DataSource] {
    share == 1
      ? sources
      : sources.map { DataSource(path: $0.path, share: max(0.001, ($0.share * share * 1000).rounded(.down) / 1000)) }
  }

  private func checksums() throws -> [String] {
    try (sources.map { ("train", $0) } + (held ?? []).map { ("judge", $0) }).map { what, source in
      "\(what) \(source) \(try SHA256.hexadecimal(ofFile: source.path))"
    }
  }

  // MARK: - Activations

  /// All blocks that a candidate may read; nil where candidates keep none, or all the same. What cannot be read with the
  /// other options is a candidate that fails.
  private func rungs() throws -> [Int]? {
    guard cacheForTrials != nil, settings.base.method.method != .qlora else { return nil }
    let values = settings.space.dimensions.first { $0.name == "rungs" }?.values ?? []
    var all: Set<Int> = []
    func rungs(_ options: TrainingOptions) throws -> [Int] {
      try options.method.chosen().tuning.needs(on: backbone.outline).rungs
    }
    all.formUnion(try rungs(settings.base))
    for value in values {
      var options = settings.base
      try options.set("rungs", to: value)
      if let own = try? rungs(options) { all.formUnion(own) }
    }
    return all.sorted()
  }

  /// The part of the samples whose activations a quarter of the budget can keep, and the cache's limit has room for; all,
  /// where the cache has what cannot be kept.
  private func affordable(
    _ parts: Parts, _ filling: CacheFilling, _ report: (Sweep.Event) -> Void
  ) throws -> Double {
    let (missing, bytes, room) = try filling.missing()
    if missing == 0 { return 1 }
    report(.stage("measuring the model's speed"))
    let tokens = settings.budget / 4 * (try filling.speed())
    func all(_ count: Int) -> Double {
      max(1, Double(count) * Double(parts.train.count + parts.judge.count) / Double(parts.train.count))
    }
    // Some samples are longer than others.
    let space = room.map { 0.95 * Double($0) / all(bytes) } ?? 1
    if all(missing) <= tokens, space >= 1 { return 1 }
    let share = min(1, max(min(tokens / all(filling.tokens), space), 64 / Double(parts.train.count)))
    return share >= 1 ? 1 : max(0.001, (share * 1000).rounded(.down) / 1000)
  }

  private func filling(_ parts: Parts) throws -> CacheFilling? {
    guard let rungs = try rungs() else { return nil }
    let named = settings.space.dimensions.first { $0.name == "objective" }?.values.compactMap(Objective.init)
    return try CacheFilling(
      backbone, rungs: rungs, cache: cache, train: parts.train, judge: parts.judge, settings.base,
      objectives: named ?? [settings.base.objective ?? .tokens],
      evaluation: try CandidateTrainer.evaluation(settings.base, measured, cache: cache))
  }
}
