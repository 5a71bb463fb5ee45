import LadderCore
import LadderData

/// A training that runs in a task of its own, as the sequence of its events.
///
///     for try await event in Trainer(backbone, settings).progress(samples, into: run) {
///       if case .step(let step) = event { print(step.step, step.loss) }
///     }
///
/// It begins at once and ends with the run. Where the task that iterates is cancelled, training stops, saves its state,
/// and only then the iteration ends, with `interrupted`; `cancel` does the same from elsewhere. Events wait until they
/// are read.
public struct TrainingProgress: AsyncSequence, Sendable {
  /// What a run reports.
  public typealias Element = TrainingEvent
  /// What a run throws.
  public typealias Failure = LadderError

  private let events: AsyncStream<TrainingEvent>
  private let task: Task<Result<TrainingStep?, LadderError>, Never>

  init(_ train: @escaping @Sendable ((TrainingEvent) -> Void) throws(LadderError) -> TrainingStep?) {
    let (events, continuation) = AsyncStream<TrainingEvent>.makeStream()
    self.events = events
    task = Task.detached {
      defer { continuation.finish() }
      do throws(LadderError) {
        return .success(try train { continuation.yield($0) })
      } catch {
        return .failure(error)
      }
    }
    continuation.onTermination = { [task] reason in if case .cancelled = reason { task.cancel() } }
  }

  /// Stops training, which saves its state.
  public func cancel() { task.cancel() }

  /// Waits for the end.
  /// - Returns: the last step.
  /// - Throws: what `Trainer.train` throws.
  public func finish() async throws(LadderError) -> TrainingStep? {
    let outcome = await withTaskCancellationHandler {
      await task.value
    } onCancel: {
      task.cancel()
    }
    return try outcome.get()
  }

  /// The events, from the first that nobody has read.
  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(events: events.makeAsyncIterator(), progress: self) }

  /// Waits for one event after another.
  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate var events: AsyncStream<TrainingEvent>.AsyncIterator
    fileprivate let progress: TrainingProgress

    /// - Throws: what `Trainer.train` throws, once it has ended.
    public mutating func next() async throws(LadderError) -> TrainingEvent? {
      if let event = await events.next() { return event }
      _ = try await progress.finish()
      return nil
    }
  }
}

extension Trainer {
  /// Trains in a task of its own; the parameters and errors are those of `train`.
  public func progress(
    _ samples: [Sample], name: String = "the samples", validation: [Sample]? = nil, validationName: String? = nil,
    into run: RunDirectory, resume: Bool = false
  ) -> TrainingProgress {
    TrainingProgress { (report) throws(LadderError) in
      try train(
        samples, name: name, validation: validation, validationName: validationName, into: run, resume: resume,
        report: report)
    }
  }
}
