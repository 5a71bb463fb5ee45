import Foundation
import LadderInference
import Metrics

/// What is counted of texts, by the model that they are for.
struct GenerationMetrics: Sendable {
  let factory: any MetricsFactory

  /// Follows the texts of one request.
  struct Watch {
    fileprivate let factory: any MetricsFactory
    fileprivate let dimensions: [(String, String)]

    fileprivate let begin = ContinuousClock.now
    fileprivate var hasText = false

    mutating func take(_ event: GenerationEngine.Event) {
      switch event {
      case .began: break
      case .piece:
        if hasText { return }
        hasText = true
        record(ContinuousClock.now - begin, "ladder_first_token_seconds")
      case .ended(let generation):
        count(generation.promptTokens, "ladder_prompt_tokens_total")
        count(generation.reusedTokens, "ladder_reused_tokens_total")
        count(generation.tokens, "ladder_generated_tokens_total")
        record(ContinuousClock.now - begin, "ladder_text_seconds")
      }
    }

    private func count(_ amount: Int, _ label: String) {
      Counter(label: label, dimensions: dimensions, factory: factory).increment(by: amount)
    }

    private func record(_ duration: Duration, _ label: String) {
      Metrics.Timer(label: label, dimensions: dimensions, factory: factory).record(duration: duration)
    }
  }

  func watch(_ model: String) -> Watch { Watch(factory: factory, dimensions: [("model", model)]) }
}
