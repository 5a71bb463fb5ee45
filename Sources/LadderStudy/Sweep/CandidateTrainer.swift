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

  func steps(_ options: TrainingOptions) throws -> Int {
    let settings = try options.configuration()
    try settings.validate()
    return settings.totalSteps(examples: train.count)
  }

  func train(_ options: TrainingOptions, into folder: String) throws -> Evaluation {
    var settings = try options.configuration()
    settings.checkpointEvery = 1 << 30
    let run = RunDirectory(folder)
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
