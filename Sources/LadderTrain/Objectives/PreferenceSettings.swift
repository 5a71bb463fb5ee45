import Foundation
import LadderCore

/// How preferences between two answers are learned.
public struct PreferenceSettings: Codable, Sendable, Equatable {
  /// How a pair is judged; p is what is trained.
  public enum Loss: String, Codable, Sendable, CaseIterable {
    /// −ln σ(z) of z = β·h, for h = ln p(chosen)/p₀(chosen) − ln p(rejected)/p₀(rejected), p₀ the model alone (Rafailov
    /// et al. 2023, "Direct Preference Optimization", eq. 7).
    case sigmoid
    /// (h − 1/(2β))² of h per token (Azar et al. 2023, eq. 17).
    case ipo
    /// −ln p(chosen) per token, and β·(−ln σ) of the log odds' difference; it needs no p₀ (Hong et al. 2024, eq. 6).
    case orpo
    /// −ln σ(β·h − γ) of log-likelihoods per token; it needs no p₀ (Meng et al. 2024, eq. 6).
    case simpo
  }

  /// How a pair is judged.
  public var loss = Loss.sigmoid
  /// β: a smaller one pulls further from the model alone.
  public var beta: Double = 0.1
  /// The share of pairs that are taken to be the wrong way round; for `sigmoid` (Mitchell 2023, cDPO).
  public var labelSmoothing: Double = 0
  /// γ of `simpo`.
  public var margin: Double = 0.5

  public init() {}

  package func validate() throws {
    func require(_ condition: Bool, _ message: String) throws { if !condition { throw LadderError(.usage, message) } }
    try require(beta > 0 && beta.isFinite, "`beta` must be above 0")
    try require((0..<0.5).contains(labelSmoothing), "`labelSmoothing` is a share below a half")
    try require(
      labelSmoothing == 0 || loss == .sigmoid, "`labelSmoothing` is for the loss sigmoid; \(loss.rawValue) has none")
  }

  /// Whether the loss compares with the model alone.
  package var hasReference: Bool { loss == .sigmoid || loss == .ipo }
}

/// The log-likelihoods of a pair's answers, in nats, and what the loss makes of them.
package struct PreferencePair: Sendable, Equatable {
  /// ln p of the chosen and of the rejected answer.
  package var chosen: Double
  package var rejected: Double
  /// The same of the model alone; 0 where the loss has no reference.
  package var chosenReference = 0.0
  package var rejectedReference = 0.0
  package var chosenTokens: Int
  package var rejectedTokens: Int

  package init(
    chosen: Double, rejected: Double, chosenReference: Double = 0, rejectedReference: Double = 0, chosenTokens: Int,
    rejectedTokens: Int
  ) {
    self.chosen = chosen
    self.rejected = rejected
    self.chosenReference = chosenReference
    self.rejectedReference = rejectedReference
    self.chosenTokens = chosenTokens
    self.rejectedTokens = rejectedTokens
  }

  /// h: how much more the chosen answer has gained on the model alone than the rejected one.
  package var gain: Double { (chosen - chosenReference) - (rejected - rejectedReference) }

  /// The loss and its derivatives by the two log-likelihoods.
  package func evaluate(_ settings: PreferenceSettings) -> (loss: Double, byChosen: Double, byRejected: Double) {
    let beta = settings.beta, own = 1 / Double(max(1, chosenTokens)), other = 1 / Double(max(1, rejectedTokens))
    func minusLogSigmoid(_ z: Double) -> Double { z > 0 ? log1p(exp(-z)) : log1p(exp(z)) - z }
    func sigmoid(_ z: Double) -> Double { 1 / (1 + exp(-z)) }
    switch settings.loss {
    case .sigmoid:
      let z = beta * gain, smoothing = settings.labelSmoothing
      let loss = (1 - smoothing) * minusLogSigmoid(z) + smoothing * minusLogSigmoid(-z)
      let slope = beta * (-(1 - smoothing) * sigmoid(-z) + smoothing * sigmoid(z))
      return (loss, slope, -slope)
    case .ipo:
      let h = (chosen - chosenReference) * own - (rejected - rejectedReference) * other, distance = h - 1 / (2 * beta)
      return (distance * distance, 2 * distance * own, -2 * distance * other)
    case .simpo:
      let z = beta * (chosen * own - rejected * other) - settings.margin, slope = -beta * sigmoid(-z)
      return (minusLogSigmoid(z), slope * own, -slope * other)
    case .orpo:
      // The log odds of a mean log-likelihood a: a − ln(1 − eᵃ), whose derivative is 1/(1 − eᵃ).
      let a = min(chosen * own, -1e-9), b = min(rejected * other, -1e-9)
      let z = (a - log(-expm1(a))) - (b - log(-expm1(b))), slope = -beta * sigmoid(-z)
      return (-a + beta * minusLogSigmoid(z), (-1 + slope / -expm1(a)) * own, -slope / -expm1(b) * other)
    }
  }
}
