import LadderEval

/// Runs a study's jobs, one at a time. Where a job's memory is a finding, it is a process of its own.
///
/// Each call returns when its job is done, and hands on what the job says on the way. It throws the job's own error;
/// `interrupted` once the job has saved its state, where the task that runs the study is cancelled.
public protocol Runner: Sendable {
  func train(_ job: TrainingJob, progress: (String) -> Void) throws
  func evaluate(_ job: EvaluationJob, progress: (String) -> Void) throws -> Evaluation
  func measure(_ job: MemoryJob, progress: (String) -> Void) throws -> SpeedBenchmark.TwoSteps
}
