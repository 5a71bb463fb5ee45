import Foundation
import LadderBackbone
import LadderData
import LadderEval
import LadderInference
import LadderStudy
import LadderTrain

/// Runs jobs in this process, and remembers them.
package final class LocalRunner: Runner, @unchecked Sendable {
  package private(set) var trainings: [TrainingJob] = []
  package private(set) var evaluations: [EvaluationJob] = []
  package private(set) var measurements: [MemoryJob] = []

  package init() {}

  private func backbone(_ model: String, _ machine: MachineOptions) throws -> Backbone {
    try Backbone(path: model, threads: machine.threads, device: machine.device)
  }

  package func train(_ job: TrainingJob, progress: (String) -> Void) throws {
    trainings.append(job)
    try Trainer(try backbone(job.model, job.machine), try job.options.configuration(), cache: job.cache).train(
      try Sample.load(job.data), name: job.data, into: RunDirectory(job.out), resume: true)
  }

  package func evaluate(_ job: EvaluationJob, progress: (String) -> Void) throws -> Evaluation {
    evaluations.append(job)
    var options = EvaluationOptions()
    options.metric = job.metric
    options.maxLength = job.maxLength ?? options.maxLength
    options.maxTokens = job.maxTokens ?? options.maxTokens
    options.cache = job.cache.map { CacheOptions(directory: $0) }
    let model = try LadderModel(try backbone(job.model, job.machine), adapter: job.run.map { RunDirectory($0) })
    let result = try model.evaluate(try Sample.load(job.data), name: "task", options: options)
    if let predictions = job.predictions {
      let lines = try result.predictions.map { try JSONEncoder().encode($0) + Data("\n".utf8) }
      try Data(lines.joined()).write(to: URL(fileURLWithPath: predictions))
    }
    return result
  }

  package func measure(_ job: MemoryJob, progress: (String) -> Void) throws -> SpeedBenchmark.TwoSteps {
    measurements.append(job)
    // A made-up peak that grows with what is asked for.
    return .init(
      peakBytes: 1_000_000 + 1000 * job.length * job.sequences, secondsPerThousandTokens: 1, sequences: job.sequences)
  }
}
