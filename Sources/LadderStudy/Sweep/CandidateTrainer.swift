import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderEval
import LadderInference
import LadderMethods
import LadderTrain

/// Trains and judges candidates in this process, on one loaded model.
struct CandidateTrainer: CandidateTraining {
  let backbone: Backbone
  let train: [Sample]
  let judge: [Sample]
  let cache: CacheOptions?
  let metric: Metric
  private let counts = ExampleCounts()

  /// As many as training makes of the samples: a long text gives several examples, what has nothing to learn none.
  func steps(_ options: TrainingOptions) throws -> Int {
    let settings = try options.configuration()
    try settings.validate()
    let form = ["objective", "max-length", "overlong", "earlier-turns"].map { name in
      options.given.first { $0.name == name }.map { "\($0.value)" } ?? ""
    }
    return settings.totalSteps(
      examples: try counts.count(form) {
        try settings.encoder(backbone).examples(train, name: "the samples").examples.count
      })
  }

  func train(_ options: TrainingOptions, into folder: String) throws -> Evaluation {
    var settings = try options.configuration()
    settings.checkpointEvery = 1 << 30
    let run = RunDirectory(folder)
    // A sweep that was stopped may have left another candidate's run there.
    if let other = try? run.manifest(), other.configuration != settings {
      try? FileManager.default.removeItem(atPath: folder)
    }
    let cache = settings.method.keepsActivations ? cache : nil
    if (try? run.manifest())?.finished != true {
      try Trainer(backbone, settings, cache: cache).train(train, into: run, resume: true)
    }
    return try LadderModel(backbone, adapter: run).evaluate(
      judge, options: Self.evaluation(options, metric, cache: cache))
  }

  static func evaluation(_ options: TrainingOptions, _ metric: Metric, cache: CacheOptions?) throws -> EvaluationOptions
  {
    let settings = try options.configuration()
    var evaluation = EvaluationOptions()
    evaluation.metric = metric
    evaluation.maxLength = settings.maxLength
    evaluation.overlong = settings.overlong
    evaluation.cache = cache
    if let preference = settings.preference { evaluation.preference = preference }
    return evaluation
  }
}

/// How many examples the samples give in each form that candidates learn them in.
private final class ExampleCounts: @unchecked Sendable {
  private let lock = NSLock()
  private var known: [[String]: Int] = [:]

  func count(_ form: [String], _ make: () throws -> Int) rethrows -> Int {
    if let count = lock.withLock({ known[form] }) { return count }
    let count = try make()
    lock.withLock { known[form] = count }
    return count
  }
}
