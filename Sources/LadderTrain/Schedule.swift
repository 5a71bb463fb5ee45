import Foundation

/// The learning rate over a run, as a factor of its peak.
public enum Schedule: String, Codable, Sendable, CaseIterable {
  /// Half a cosine down to a tenth.
  case cosine
  /// A straight line down to zero.
  case linear
  case constant

  /// - Parameters:
  ///   - step: from 0.
  ///   - warmup: steps over which the rate rises to its peak.
  ///   - total: steps of the run.
  package func factor(step: Int, warmup: Int, total: Int) -> Float {
    if step < warmup { return Float(step + 1) / Float(warmup) }
    let progress = Float(step - warmup) / Float(max(1, total - warmup))
    return switch self {
    case .cosine: 0.1 + 0.45 * (1 + cosf(.pi * min(1, progress)))
    case .linear: max(0, 1 - progress)
    case .constant: 1
    }
  }
}
