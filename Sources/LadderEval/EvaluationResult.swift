/// Why a sample could not be judged.
public enum Unjudged: String, Sendable, Codable, CaseIterable, CodingKeyRepresentable {
  case tooLong = "too long"
  case nothingLearned = "nothing to learn"
  case notAmongChoices = "completion not among the choices"
  case equallyLikely = "choices equally likely"
  case notFinite = "likelihood not finite"
}

/// What an evaluation found.
public struct Evaluation: Sendable, Codable, Equatable {
  /// The samples' name.
  public var task: String
  /// What was measured.
  public var metric: Metric
  /// The metric itself: a share, or for `loss` nats per loss row.
  public var value: Double
  /// Samples that were judged.
  public var examples: Int
  /// Mean nats per loss row of the samples' own completions.
  public var loss: Double
  /// The share that was judged right; for choices and `exact`.
  public var accuracy: Double?
  /// For choices, where all samples have the same ones.
  public var matthews: Double?
  /// For choices, where all samples have the same ones.
  public var macroF1: Double?
  /// Mean nats of the right choice among its own choices alone; for `choice`.
  public var choiceLoss: Double?
  /// For `preference`: how much more, in nats, chosen answers have gained on the model alone than rejected ones, on the
  /// mean; and the share of pairs of which that is above 0.
  public var margin: Double?
  /// For `preference`: the share of pairs with a margin above 0.
  public var rewardAccuracy: Double?
  /// Tokens through the model in a second, generated ones among them.
  public var tokensPerSecond: Double
  /// Samples that lost their prompt's start.
  public var trimmed: Int
  /// Samples that were left out as too long.
  public var dropped: Int
  /// What did not go through as it was written, a short phrase each. Not part of the JSON.
  public var notes: [String] = []
  /// Samples that could not be judged, by why.
  public var unjudged: [Unjudged: Int] = [:]
  /// What was predicted for each example, in their order; for `choice` and `exact`. Not part of the JSON.
  public var predictions: [Prediction] = []

  /// One sample's outcome.
  public struct Prediction: Sendable, Codable, Equatable {
    /// The choice, or the generated text.
    public var text: String
    /// Generated tokens; 0 for a choice.
    public var tokens: Int
    /// Whether it is the sample's own.
    public var isRight: Bool
    /// Why the sample was not judged; nil where it was.
    public var leftOut: Unjudged?

    enum CodingKeys: String, CodingKey {
      case text, tokens
      case isRight = "right"
      case leftOut = "left_out"
    }

    /// Of a sample that was not judged.
    static func none(_ reason: Unjudged) -> Prediction {
      Prediction(text: "", tokens: 0, isRight: false, leftOut: reason)
    }
  }

  enum CodingKeys: String, CodingKey {
    case task, metric, value, examples, loss, accuracy, matthews
    case macroF1 = "macro_f1"
    case judged, unjudged
    case reasons = "unjudged_reasons"
    case choiceLoss = "choice_loss"
    case margin
    case rewardAccuracy = "reward_accuracy"
    case tokensPerSecond = "tokens_per_second"
    case trimmed, dropped
  }
}

extension Evaluation {
  /// Samples that could not be judged, whatever the reason.
  public var unjudgedCount: Int { unjudged.values.reduce(0, +) }

  /// How many samples could not be judged and why, in words; nil where all were.
  public var unjudgedText: String? {
    guard unjudgedCount > 0 else { return nil }
    let reasons = Unjudged.allCases.compactMap { reason in unjudged[reason].map { "\($0) \(reason.rawValue)" } }
    return "\(unjudgedCount) of \(examples + unjudgedCount) samples could not be judged: "
      + reasons.joined(separator: ", ")
  }

  mutating func leaveOut(_ count: Int, _ reason: Unjudged) {
    if count > 0 { unjudged[reason, default: 0] += count }
  }

  /// Results of older evaluations lack what those did not tell.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    func optional(_ key: CodingKeys) throws -> Double? { try values.decodeIfPresent(Double.self, forKey: key) }
    self.init(
      task: try values.decode(String.self, forKey: .task), metric: try values.decode(Metric.self, forKey: .metric),
      value: try values.decode(Double.self, forKey: .value), examples: try values.decode(Int.self, forKey: .examples),
      loss: try values.decode(Double.self, forKey: .loss), accuracy: try optional(.accuracy),
      matthews: try optional(.matthews), macroF1: try optional(.macroF1), choiceLoss: try optional(.choiceLoss),
      margin: try optional(.margin), rewardAccuracy: try optional(.rewardAccuracy),
      tokensPerSecond: try values.decode(Double.self, forKey: .tokensPerSecond),
      trimmed: try values.decode(Int.self, forKey: .trimmed), dropped: try values.decode(Int.self, forKey: .dropped),
      unjudged: try values.decodeIfPresent([Unjudged: Int].self, forKey: .reasons) ?? [:])
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(task, forKey: .task)
    try values.encode(metric, forKey: .metric)
    try values.encode(value, forKey: .value)
    try values.encode(examples, forKey: .examples)
    try values.encode(loss, forKey: .loss)
    try values.encodeIfPresent(accuracy, forKey: .accuracy)
    try values.encodeIfPresent(matthews, forKey: .matthews)
    try values.encodeIfPresent(macroF1, forKey: .macroF1)
    try values.encodeIfPresent(choiceLoss, forKey: .choiceLoss)
    try values.encodeIfPresent(margin, forKey: .margin)
    try values.encodeIfPresent(rewardAccuracy, forKey: .rewardAccuracy)
    try values.encode(tokensPerSecond, forKey: .tokensPerSecond)
    try values.encode(trimmed, forKey: .trimmed)
    try values.encode(dropped, forKey: .dropped)
    try values.encode(examples, forKey: .judged)
    try values.encode(unjudgedCount, forKey: .unjudged)
    if !unjudged.isEmpty { try values.encode(unjudged, forKey: .reasons) }
  }
}
