import Foundation
import LadderBackbone
import LadderCore
import LadderData
import LadderEval
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
    if let steps = settings.steps { return steps }
    let perEpoch = BatchPlan.batches(of: train.count, size: settings.batchSize)
    return max(1, Int((settings.epochs * Double(perEpoch)).rounded(.up)))
  }

  func train(_ options: TrainingOptions, into folder: String, resume: Bool) throws -> Evaluation {
    var settings = try options.configuration()
    settings.checkpointEvery = 1 << 30
    let run = RunDirectory(folder)
    if (try? run.manifest())?.finished != true {
      try Trainer(backbone, settings, cache: cache).train(train, into: run, resume: resume)
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
