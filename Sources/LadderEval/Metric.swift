/// What an evaluation measures.
public enum Metric: String, Sendable, Codable, CaseIterable {
  /// Preference for pairs, choice where the samples have choices, else exact where they have answers, else loss.
  case auto
  /// Mean nats per loss row.
  case loss
  /// The share of samples whose own completion is the likeliest of its choices.
  case choice
  /// Matthews correlation of the likeliest choices with the samples' own, where all samples have the same choices.
  case matthews
  /// The mean F1 of the choices, where all samples have the same.
  case macroF1 = "macro-f1"
  /// The share of pairs whose chosen answer is likelier than the rejected one.
  case preference
  /// The share of samples whose generated text ends in the answer.
  case exact
}
