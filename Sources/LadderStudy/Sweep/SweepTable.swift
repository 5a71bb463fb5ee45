import Foundation

/// A sweep's trials for a reader, the best first, then those of the furthest stage.
public enum SweepTable {
  /// The rows as text, a heading first.
  /// - Parameter limit: rows at most; the defaults' best row is always among them.
  public static func cells(_ trials: [Sweep.Trial], limit: Int = .max) -> [[String]] {
    let first = Sweep.best(trials)
    let order = trials.filter { $0.score != nil }.sorted { a, b in
      if (a == first) != (b == first) { return a == first }
      return a.stage != b.stage ? a.stage > b.stage : (a.score ?? 0, a.number) < (b.score ?? 0, b.number)
    }
    // A candidate once: the best, then each where it came furthest.
    var seen: Set<SearchSpace.Choices> = []
    let once = order.filter { seen.insert($0.choices).inserted }
    var shown = Array(once.prefix(limit))
    if let defaults = once.first(where: { $0.choices.isEmpty }), !shown.contains(defaults) {
      shown = shown.dropLast() + [defaults]
    }
    return [["trial", "of a run", "loss", "metric", "seconds", "options"]]
      + shown.map { trial in
        [
          String(trial.number), String(format: "%.2f", trial.share), loss(trial), metric(trial),
          String(format: "%.1f", trial.seconds), trial.options,
        ]
      }
  }

  public static func markdown(_ trials: [Sweep.Trial]) -> String { AccuracyTable.markdown(cells(trials)) }

  private static func loss(_ trial: Sweep.Trial) -> String {
    (trial.evaluation?.choiceLoss ?? trial.evaluation?.loss).map { String(format: "%.4f", $0) } ?? "–"
  }

  private static func metric(_ trial: Sweep.Trial) -> String {
    guard let evaluation = trial.evaluation, evaluation.metric != .loss else { return "–" }
    return String(format: "%.3f", evaluation.value)
  }
}

extension Sweep.Trial {
  /// What it changes of the defaults, as on a command line.
  public var options: String {
    choices.isEmpty
      ? "(defaults)" : choices.sorted { $0.key < $1.key }.map { "--\($0.key) \($0.value)" }.joined(separator: " ")
  }
}
