import ArgumentParser
import Foundation
import Ladder
import LadderStudy
import Yams

struct SweepCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sweep",
    abstract: "Search for the recipe that suits your samples, in a given time, and train with it.",
    discussion: """
      Successive halving: many recipes on a ninth of a run, the best third of them on a third, the best of those on
      whole runs; the defaults beside them. The model runs once, for the activation cache; from there a recipe takes
      seconds. Judged on --valid and, where it has fewer than a thousand samples, on as many of --data beside it (at
      most a tenth, whose prompts the others do not have): by the loss among the choices where samples have some, by
      the share of pairs whose chosen answer is likelier, else by the loss, unless --metric says otherwise.

      What you give as an option of `ladder train` is kept as it is, everything else that counts is searched; --space
      names other options and values:

        learning-rate: [1e-4, 1e-3]
        rungs: ["middle", "8,", "9,12,15"]

      OUT/best holds the best run, OUT/best.yaml all options of it (ladder train --config OUT/best.yaml --out RUN makes
      it again), OUT/table.md what was tried. Stop with Ctrl-C and run the same command to go on; a longer --budget
      takes the recipes that are there further.
      """)

  @OptionGroup var options: ModelOptions
  @OptionGroup var samples: SampleArguments
  @Option(
    help: ArgumentHelp("Samples to judge by (default: a part of --data alone).", valueName: "file[:share]"),
    completion: .file()) var valid: [String] = []
  @Option(
    help: ArgumentHelp("Folder for the findings and the best run (default: sweep).", valueName: "folder"),
    completion: .directory)
  var out: String?
  @Option(help: ArgumentHelp("Time, such as 90s, 10m or 2h; the last run may go beyond it.", valueName: "time"))
  var budget = Budget(seconds: 600)
  @Option(help: ArgumentHelp("What decides.", valueName: "name")) var metric = Metric.auto
  @Option(
    help: ArgumentHelp("YAML file of the options and values to search.", valueName: "file.yaml"),
    completion: .file(extensions: ["yaml", "yml"])) var space: String?
  @Option(
    help: ArgumentHelp("Folder of the activation cache (default: OUT/cache).", valueName: "folder"),
    completion: .directory) var cache: String?
  @Flag(help: "Print the findings as one JSON object, not as Markdown.") var json = false
  @OptionGroup var training: TrainingArguments

  mutating func run() async throws {
    var asked = try samples.asked(options, training, valid: valid, out: out, cache: cache)
    let sources = try asked.sources(), held = try asked.valid?.texts.map { try DataSource($0) }
    let out = asked.out ?? "sweep"
    asked.cache = asked.cache ?? out + "/cache"
    let space = try space.map { try ConfigurationFile.read(SpaceFile.self, path: $0).space }
    guard let cacheOptions = try asked.cacheOptions() else { return }
    options.model = asked.model
    options.verbose = asked.verbose ?? false
    options.machine = asked.run.machine
    let base = asked.run.training, keeps = try base.configuration().method.keepsActivations
    let backbone = try await options.load(cache: keeps ? cacheOptions.directory : nil, trainsInside: !keeps)
    let search = try RecipeSearch(
      backbone, budget: budget.seconds, base: base, space: space, metric: metric, train: sources, judge: held,
      cache: cacheOptions, folder: out)
    let view = SweepView(budget: budget.seconds)
    let result = try await interruptible(saves: true) {
      try search.run(report: { view.show($0) }, training: Train.show)
    }
    Terminal.finishLine()

    var file = TrainingFile()
    file.model = asked.model
    file.data = TextList(result.data)
    if keeps { file.cache = cacheOptions.directory }
    file.run = asked.run
    file.run.training = result.options
    try DurableFile.write(out + "/best.yaml", [Data(try ConfigurationFile.text(of: file).utf8)])
    if json { return Terminal.output(try Terminal.json(result)) }
    Terminal.output(SweepTable.markdown(result.trials))
    if result.share < 1 {
      Terminal.note(
        "the time, or the cache's limit, allowed \(result.trainSamples) of the samples, a share of \(result.share): raise it in \(out)/best.yaml "
          + "to train on more")
    }
    Terminal.note(view.verdict(result))
    Terminal.note("\(result.run) is the best run; ladder train --config \(out)/best.yaml --out RUN makes it again")
  }
}

/// A time such as `90s`, `10m` or `2h`; a number alone is seconds.
struct Budget: ExpressibleByArgument {
  var seconds: Double

  init(seconds: Double) { self.seconds = seconds }

  init?(argument: String) {
    let units = ["s": 1.0, "m": 60, "h": 3600], unit = argument.last.flatMap { units[String($0)] }
    guard let number = Double(unit == nil ? argument[...] : argument.dropLast()), number.isFinite, number > 0 else {
      return nil
    }
    seconds = number * (unit ?? 1)
  }

  var defaultValueDescription: String { "10m" }
}

/// Options and the values to search of each.
private struct SpaceFile: Decodable {
  let space: SearchSpace

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    space = try SearchSpace(try container.decode([String: PlainValue].self).mapValues(\.parts))
  }
}

/// What a sweep shows as it goes: on a terminal a table that is written over, elsewhere a line for each trial.
private final class SweepView: @unchecked Sendable {
  private let budget: Double

  init(budget: Double) { self.budget = budget }

  func show(_ event: Sweep.Event) {
    switch event {
    case .stage(let text): Terminal.progress(text)
    case .trial(let trial, let all):
      let spent = all.reduce(0) { $0 + $1.seconds }
      let left = "\(all.count) trials in \(Terminal.time(spent)) of \(Terminal.time(budget))"
      if Terminal.isInteractive {
        Terminal.block(Terminal.aligned(SweepTable.cells(all, limit: 10)) + [left])
      } else {
        let score = trial.score.map { String(format: "%.4f", $0) } ?? "failed: \(trial.failure ?? "")"
        Terminal.note(
          String(
            format: "trial %d, %.2f of a run: %@  (%.1f s)  %@", trial.number, trial.share, score, trial.seconds,
            trial.options))
      }
    }
  }

  /// How the best compares with the defaults where both were judged.
  func verdict(_ result: RecipeSearch.Result) -> String {
    guard let best = result.best.score, !result.best.choices.isEmpty else {
      return "nothing was found that beats the defaults in this time"
    }
    guard let defaults = result.defaults?.score else {
      return String(format: "best %.4f on %d samples; the defaults could not be trained", best, result.judgedSamples)
    }
    var text = String(format: "best %.4f, defaults %.4f on %d samples", best, defaults, result.judgedSamples)
    if let a = result.best.evaluation, let b = result.defaults?.evaluation, a.metric != .loss {
      text += String(format: "; %@ %.3f and %.3f", a.metric.rawValue, a.value, b.value)
    }
    return text
  }
}
