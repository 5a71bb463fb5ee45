import LadderBackbone
import LadderCore
import LadderData
import LadderMethods

/// Trains what a method adds to a frozen backbone.
///
/// `TrainingLoop` reads as the algorithm; the work of one step is `TrainingSession.take`.
public struct Trainer: Sendable {
  /// The frozen model.
  public let backbone: Backbone
  /// What is trained, and how.
  public let configuration: TrainingConfiguration
  /// Where the model's activations are kept; nil keeps none.
  public let cache: CacheOptions?

  /// - Parameter cache: where the model's activations are kept; only for methods that leave them as they are.
  public init(
    _ backbone: Backbone, _ configuration: TrainingConfiguration = TrainingConfiguration(), cache: CacheOptions? = nil
  ) {
    self.backbone = backbone
    self.configuration = configuration
    self.cache = cache
  }

  /// Trains until done, and writes the run's folder.
  ///
  /// Cancel the task that runs this to stop it: it saves a checkpoint and throws `interrupted`.
  /// - Parameters:
  ///   - samples: what to learn; `name` stands for them in errors.
  ///   - validation: samples to choose the best state by; the last state is kept where there are none.
  ///     `validationName` stands for them.
  ///   - run: where the results go.
  ///   - resume: continue from the folder's last checkpoint, if it has one.
  ///   - ranks: this process among those that train the run together, each with the same samples and settings: every
  ///     batch is shared out among them, and the first writes the folder and reports.
  ///   - report: called with each event, on the thread that trains.
  /// - Returns: the last step.
  /// - Throws: `usage`, `data`, `inputOutput`, `interrupted`; what was saved before stays.
  @discardableResult
  public func train(
    _ samples: [Sample], name: String = "the samples", validation: [Sample]? = nil, validationName: String? = nil,
    into run: RunDirectory, resume: Bool = false, among ranks: Ranks = Ranks(),
    report: (TrainingEvent) -> Void = { _ in }
  ) throws(LadderError) -> TrainingStep? {
    let held = validation.map { NamedSamples(samples: $0, name: validationName ?? "the validation samples") }
    return try LadderError.unify {
      do {
        return try withoutActuallyEscaping(report) { report in
          let loop = try TrainingLoop(
            self, NamedSamples(samples: samples, name: name), validation: held, into: run, resume: resume, ranks,
            report: ranks.isFirst ? report : { _ in })
          return try loop.run()
        }
      } catch {
        ranks.abandon(error)
        throw error
      }
    }
  }
}

/// Samples, and what stands for them in errors.
struct NamedSamples {
  let samples: [Sample]
  let name: String
}
