import Foundation
import LadderEval
import LadderTrain

/// What an accuracy study found, a row for each task and method.
public struct AccuracyTable: Codable, Sendable {
  public struct Row: Codable, Sendable {
    public var task: String
    public var method: String
    /// The method's own options of `ladder train`.
    public var options: String
    public var metric: Metric
    /// Over seeds; the deviation is the sample's (n − 1), 0 for one seed.
    public var mean: Double
    public var deviation: Double
    public var loss: Double
    /// Among the choices alone, where there are some.
    public var choiceLoss: Double?
    public var values: [Double]
    public var examples: Int
    /// Nil for the base model.
    public var parameters: Int?
    /// The most that any of the runs held.
    public var peakBytes: Int?
    /// Of steps that run the backbone.
    public var tokensPerSecond: Double?
    /// Training of one seed: the first, which fills the cache where there is one, and the mean of the others.
    public var firstSeconds: Double?
    public var laterSeconds: Double?

    enum CodingKeys: String, CodingKey {
      case task, method, options, metric, mean, deviation, loss, values, examples, parameters
      case choiceLoss = "choice_loss"
      case peakBytes = "peak_bytes"
      case tokensPerSecond = "tokens_per_second"
      case firstSeconds = "first_seconds"
      case laterSeconds = "later_seconds"
    }

    /// - Parameter readsOthersCache: a run may have found its activations in a cache that another filled, and never
    ///   have held the model; `cost` alone tells its memory then.
    init(
      task: String, method: String, options: String, outcomes: [AccuracyStudy.Outcome], cost: TrainingStep?,
      readsOthersCache: Bool = false
    ) {
      self.task = task
      self.method = method
      self.options = options
      let values = outcomes.map(\.evaluation.value), count = Double(values.count)
      metric = outcomes[0].evaluation.metric
      self.values = values
      let spread = MeanDeviation(values)
      mean = spread.mean
      deviation = spread.deviation
      loss = outcomes.reduce(0) { $0 + $1.evaluation.loss } / count
      let among = outcomes.compactMap(\.evaluation.choiceLoss)
      choiceLoss = among.count == outcomes.count ? among.reduce(0, +) / count : nil
      examples = outcomes[0].evaluation.examples
      guard outcomes[0].parameters > 0 else { return }
      parameters = outcomes[0].parameters
      peakBytes =
        readsOthersCache ? cost?.peakBytes : max(outcomes.map(\.peakBytes).max() ?? 0, cost?.peakBytes ?? 0)
      tokensPerSecond = cost?.tokensPerSecond
      firstSeconds = outcomes[0].seconds
      if outcomes.count > 1 { laterSeconds = outcomes.dropFirst().reduce(0) { $0 + $1.seconds } / (count - 1) }
    }
  }

  public var rows: [Row]

  init(_ rows: [Row]) { self.rows = rows }

  /// The rows as text, a heading first.
  var cells: [[String]] {
    func optional(_ value: Double?, _ format: String) -> String { value.map { String(format: format, $0) } ?? "–" }
    let heading = [
      "task", "method", "options", "metric", "mean ± deviation", "loss", "among the choices", "seeds", "parameters",
      "peak memory", "tokens/s", "seconds, first / later",
    ]
    return [heading]
      + rows.map { row in
        let value =
          row.metric == .loss
          ? String(format: "%.4f ± %.4f", row.mean, row.deviation)
          : String(format: "%.3f ± %.3f", row.mean, row.deviation)
        return [
          row.task, row.method, row.options, row.metric.rawValue,
          row.values.count > 1 ? value : String(value.split(separator: " ")[0]), String(format: "%.4f", row.loss),
          optional(row.choiceLoss, "%.4f"), String(row.values.count),
          row.parameters.map { String(format: "%.2f M", Double($0) / 1e6) } ?? "–",
          row.peakBytes.map { String(format: "%.2f GB", Double($0) / 1e9) } ?? "–",
          optional(row.tokensPerSecond, "%.0f"),
          row.firstSeconds == nil
            ? "–" : optional(row.firstSeconds, "%.0f") + " / " + optional(row.laterSeconds, "%.0f"),
        ]
      }
  }

  /// A table for a Markdown file.
  public var markdown: String { Self.markdown(cells) }

  static func markdown(_ cells: [[String]]) -> String {
    guard let heading = cells.first else { return "" }
    let lines = [heading, heading.map { _ in "---" }] + cells.dropFirst()
    return lines.map {
      "| " + $0.map { $0.replacingOccurrences(of: "|", with: "\\|") }.joined(separator: " | ") + " |\n"
    }.joined()
  }
}
