import Foundation
import LadderCore
import LadderEval
import LadderMethods
import LadderTrain

/// Trains and judges methods on tasks over seeds. Each run is a job of its own, so that its peak memory is its own.
public struct AccuracyStudy: Sendable {
  /// What one seed gave.
  public struct Outcome: Codable, Sendable {
    public var evaluation: Evaluation
    /// Of the training run; 0 for the base model.
    public var seconds: Double
    public var tokens: Int
    public var peakBytes: Int
    public var parameters: Int

    enum CodingKeys: String, CodingKey {
      case evaluation, seconds, tokens
      case peakBytes = "peak_bytes"
      case parameters
    }
  }

  public let configuration: StudyConfiguration
  let folder: StudyFolder
  private let model: String

  /// - Throws: `usage` where the configuration cannot be run or no model is named.
  public init(_ configuration: StudyConfiguration, folder: String, model: String? = nil) throws {
    try configuration.validate()
    guard let model = model ?? configuration.model else {
      throw LadderError(.usage, "no `model`: name a GGUF file here or in the study's file")
    }
    self.configuration = configuration
    self.folder = StudyFolder(path: folder)
    self.model = model
  }

  /// Runs what is not done yet, and writes the findings.
  /// - Parameter report: called with what is being run and how far it is.
  @discardableResult
  public func run(_ runner: any Runner, report: @escaping (String) -> Void = { _ in }) throws -> AccuracyTable {
    try folder.claim(model: model)
    try folder.claim(for: configuration)
    for task in configuration.tasks { try folder.writeData(task) }
    let runs = configuration.methods.count * (configuration.seeds.count + (configuration.measuresCost ? 1 : 0))
    let total = configuration.tasks.count * (runs + (configuration.measuresBase ? 1 : 0))
    var done = 0
    func step(_ what: String, _ work: (@escaping (String) -> Void) throws -> Void) throws {
      try Cancellation.check()
      done += 1
      let place = "[\(done)/\(total)] \(what)"
      report(place)
      try work { report("\(place): \($0)") }
    }
    for task in configuration.tasks {
      if configuration.measuresBase { try step("\(task.name), base") { try evaluateBase(task, runner, $0) } }
      for method in configuration.methods {
        for seed in configuration.seeds {
          try step("\(task.name), \(method.name), seed \(seed)") {
            try trainAndEvaluate(task, method, seed, runner, $0)
          }
        }
        if configuration.measuresCost {
          try step("\(task.name), \(method.name), cost") { try measureCost(task, method, runner, $0) }
        }
      }
      // What is known so far can be looked at while the rest runs.
      try write(try table())
    }
    let table = try table()
    try write(table)
    return table
  }

  // MARK: - Measurements

  private func evaluateBase(_ task: StudyConfiguration.Task, _ runner: any Runner, _ progress: (String) -> Void) throws
  {
    if folder.hasResult(task.name, "base", "base") { return }
    let evaluation = try evaluate(
      task, run: nil, predictions: folder.predictions(task.name, "base", "base"),
      task.options.over(configuration.options), runner, progress)
    let outcome = Outcome(evaluation: evaluation, seconds: 0, tokens: 0, peakBytes: 0, parameters: 0)
    try folder.write(outcome, to: folder.result(task.name, "base", "base"))
  }

  private func trainAndEvaluate(
    _ task: StudyConfiguration.Task, _ method: StudyConfiguration.Method, _ seed: Int, _ runner: any Runner,
    _ progress: (String) -> Void
  ) throws {
    let name = "seed-\(seed)"
    if folder.hasResult(task.name, method.name, name) { return }
    let run = folder.run(task.name, method.name, name)
    let options = configuration.options(task, method)
    if (try? run.manifest().finished) != true {
      var job = job(task, run, options)
      job.options.seed = UInt64(seed)
      let own = configuration.cachesEachRun ? run.path + ".cache" : nil
      if try options.training.method.chosen().keepsActivations {
        job.cache = (own ?? configuration.cache).map(options.cache)
      }
      try runner.train(job, progress: progress)
      if let own { try? FileManager.default.removeItem(atPath: own) }
    }
    let evaluation = try evaluate(
      task, run: run.path, predictions: folder.predictions(task.name, method.name, name), options, runner, progress)
    let metrics = try run.metrics(), last = metrics.last
    try folder.write(
      Outcome(
        evaluation: evaluation, seconds: last?.seconds ?? 0, tokens: last?.tokens ?? 0,
        peakBytes: metrics.map(\.peakBytes).max() ?? 0, parameters: try run.manifest().parameters),
      to: folder.result(task.name, method.name, name))
  }

  private func job(_ task: StudyConfiguration.Task, _ run: RunDirectory, _ options: RunOptions) -> TrainingJob {
    var job = TrainingJob(
      model: model, data: folder.data(task, "train"), out: run.path, options: options.training)
    job.machine = options.machine
    return job
  }

  private func evaluate(
    _ task: StudyConfiguration.Task, run: String?, predictions: String, _ options: RunOptions,
    _ runner: any Runner, _ progress: (String) -> Void
  ) throws -> Evaluation {
    try DurableFile.makeFolder((predictions as NSString).deletingLastPathComponent)
    var job = EvaluationJob(model: model, run: run, data: folder.data(task, "dev"))
    job.metric = task.metric
    // Dev is read as train is, but never cut shorter than an evaluation alone would.
    job.maxLength = options.training.maxLength.map { max($0, EvaluationOptions().maxLength) }
    job.overlong = options.training.overlong
    // A run knows its own.
    if run == nil {
      job.chatTemplate = options.training.chatTemplate
      job.chatTemplateOptions = options.training.chatTemplateOptions
    }
    job.maxTokens = task.maxTokens
    job.cache = configuration.cache
    job.predictions = predictions
    job.machine = options.machine
    return try runner.evaluate(job, progress: progress)
  }

  /// Speed and peak memory of a few steps that run the backbone, whatever the cache holds.
  private func measureCost(
    _ task: StudyConfiguration.Task, _ method: StudyConfiguration.Method, _ runner: any Runner,
    _ progress: (String) -> Void
  ) throws {
    if folder.hasResult(task.name, method.name, "cost") { return }
    // A training of a few steps is what a user's first steps cost.
    let run = folder.run(task.name, method.name, "cost")
    try? FileManager.default.removeItem(atPath: run.path)
    var job = job(task, run, configuration.options(task, method))
    job.options.epochs = nil
    job.options.steps = Self.costSteps
    // There is no cache to keep it in.
    job.options.head = nil
    try runner.train(job, progress: progress)
    guard let last = try run.metrics().last else { throw LadderError(.engine, "\(run.path) has no metrics") }
    try? FileManager.default.removeItem(atPath: run.path)
    try folder.write(last, to: folder.result(task.name, method.name, "cost"))
  }

  private static let costSteps = 12
}
