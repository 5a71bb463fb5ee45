import LadderData

/// What a run reports as it goes.
public enum TrainingEvent: Sendable {
  /// Work that has no loss yet, over in seconds.
  case stage(String)
  /// What became of a file's samples.
  case samples(SampleReport)
  /// What a user should know, in a line.
  case note(String)
  /// The run continues from a checkpoint.
  case resumed(step: Int)
  case step(TrainingStep)
  /// Mean loss over the validation samples.
  case validation(step: Int, loss: Float, isBest: Bool)
  case checkpoint(step: Int)
  /// The activation cache stores no more, and why; training goes on without it.
  case cacheStopped(String)
  /// How far the cached head was from the exact one in the steps that were worked both ways: mean difference of the
  /// loss in nats per loss row, and mean relative difference of the gradient.
  case headDrift(steps: Int, loss: Double, gradient: Double)
}

/// What became of samples as they were tokenised.
public struct SampleReport: Sendable, Equatable {
  /// The data file.
  public var name: String
  /// Samples, or parts of them, that are learned or judged.
  public var kept: Int
  /// What did not go through as it was written, a short phrase each.
  public var notes: [String]

  init(_ samples: [Sample], name: String, kept: Int, _ count: SampleEncoder.Count) {
    self.name = name
    self.kept = kept
    notes = count.notes + [samples.unreadKeys].compactMap(\.self)
  }
}

/// One optimiser step: a line of `metrics.jsonl`.
public struct TrainingStep: Codable, Sendable, Equatable {
  /// From 1.
  public var step: Int
  /// Of the whole run.
  public var totalSteps: Int
  /// Epochs done, as a fraction.
  public var epoch: Double
  /// Mean loss in nats per loss row of this batch.
  public var loss: Float
  /// Of this step.
  public var learningRate: Float
  /// Sample tokens seen since the run began.
  public var tokens: Int
  /// Since this process began to train.
  public var tokensPerSecond: Double
  /// The most bytes that this process held.
  public var peakBytes: Int
  /// Before clipping.
  public var gradientNorm: Float
  /// Until the last step, by the speed so far.
  public var secondsLeft: Double
  /// That training took so far, validations among it, in all processes that trained this run.
  public var elapsedSeconds: Double? = nil
  /// Of a step whose head was worked both ways: the cached head's mean loss less the exact one's, in nats per loss row.
  public var headDrift: Double? = nil
  /// ‖cached − exact‖ / ‖exact‖ of the two gradients with respect to the head's input.
  public var headGradientDrift: Double? = nil
  /// Mean loss over the validation samples after this step, where they were read then.
  public var validationLoss: Float? = nil
  /// What reading them took.
  public var validationSeconds: Double? = nil

  /// Of training: at the last step those of the run. Lines of older runs tell them by the speed.
  package var seconds: Double { elapsedSeconds ?? Double(tokens) / max(1e-9, tokensPerSecond) }

  enum CodingKeys: String, CodingKey {
    case step
    case totalSteps = "total_steps"
    case epoch, loss
    case learningRate = "learning_rate"
    case tokens
    case tokensPerSecond = "tokens_per_second"
    case peakBytes = "peak_bytes"
    case gradientNorm = "gradient_norm"
    case secondsLeft = "seconds_left"
    case elapsedSeconds = "seconds"
    case headDrift = "head_drift"
    case headGradientDrift = "head_gradient_drift"
    case validationLoss = "validation_loss"
    case validationSeconds = "validation_seconds"
  }
}
