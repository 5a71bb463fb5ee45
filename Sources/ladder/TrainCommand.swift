import ArgumentParser
import Foundation
import Ladder

struct Train: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train a side network on a frozen model, or low-rank matrices inside it.",
    discussion: """
      Every option can stand in a YAML file given by --config, by its long name (`learning-rate: 5e-4`); the command line wins.

      The run's folder holds ladder.json, ladder.safetensors (the best state by --valid, else the last), metrics.jsonl and the
      last checkpoint. With --method qlora it also holds the adapter for llama.cpp (adapter.gguf) and for PEFT
      (adapter_model.safetensors, adapter_config.json). Stop with Ctrl-C and go on with --resume: the weights end bit for bit as if never stopped.
      """)

  @OptionGroup var options: ModelOptions

  @Option(
    help: ArgumentHelp("YAML file of options.", valueName: "file.yaml"), completion: .file(extensions: ["yaml", "yml"]))
  var config: String?
  @Option(help: ArgumentHelp("Training samples.", valueName: "file.jsonl"), completion: .file(extensions: ["jsonl"]))
  var data: String?
  @Option(
    help: ArgumentHelp("Samples to choose the best state by.", valueName: "file.jsonl"),
    completion: .file(extensions: ["jsonl"])) var valid: String?
  @Option(help: ArgumentHelp("Folder for the run.", valueName: "folder"), completion: .directory) var out: String?
  @Flag(help: "Go on with the run in --out from its last checkpoint.") var resume = false

  @OptionGroup var method: MethodOptions

  @Option(
    help: ArgumentHelp(
      "Folder that keeps the model's activations: later epochs and runs read them and never run the model.",
      valueName: "folder"),
    completion: .directory)
  var cache: String?
  @Option(help: ArgumentHelp("bf16 (default), or q8_0: half the size, rounded.", valueName: "kind")) var cacheFormat:
    String?
  @Option(help: ArgumentHelp("Size at which the cache stores no more, e.g. 20GB.", valueName: "size")) var cacheLimit:
    String?

  @Option(help: ArgumentHelp("Passes over the data (default 1).", valueName: "E")) var epochs: Double?
  @Option(help: ArgumentHelp("Optimiser steps, instead of --epochs.", valueName: "N")) var steps: Int?
  @Option(help: ArgumentHelp("Tokens of the longest sample (default 1024).", valueName: "T")) var maxLength: Int?
  @Option(
    help: ArgumentHelp(
      "What becomes of a longer sample: trim (its prompt's start is cut; default) or drop.", valueName: "what"))
  var overlong: String?
  @Option(
    help: ArgumentHelp(
      """
      tokens (the whole vocabulary; default); choices: those of a sample against each other alone, to judge, not to generate; or \
      preference: the chosen of two answers against the rejected one.
      """,
      valueName: "what"))
  var objective: String?
  @Option(help: ArgumentHelp("How pairs are compared: sigmoid (DPO; default), ipo, orpo or simpo.", valueName: "kind"))
  var preferenceLoss: String?
  @Option(
    help: ArgumentHelp(
      "How strongly a preference pulls away from the model alone: smaller pulls further (default 0.1).", valueName: "F")
  )
  var beta: Double?
  @Option(help: ArgumentHelp("Share of pairs that are taken to be the wrong way round (default 0).", valueName: "F"))
  var labelSmoothing: Double?
  @Option(help: ArgumentHelp("Samples of one step (default 16).", valueName: "B")) var batchSize: Int?
  @Option(
    help: ArgumentHelp(
      "Tokens in memory at once; the rest of a step is accumulated (default 2048).", valueName: "tokens"))
  var microBatch: Int?
  @Option(help: ArgumentHelp("Peak learning rate (default 3e-4).", valueName: "LR")) var learningRate: Float?
  @Option(help: ArgumentHelp("cosine (default), linear or constant.", valueName: "kind")) var schedule: String?
  @Option(help: ArgumentHelp("Share of the steps over which the learning rate rises (default 0.05).", valueName: "F"))
  var warmup: Float?
  @Option(help: ArgumentHelp("AdamW's decoupled weight decay (default 0.01).", valueName: "F")) var weightDecay: Float?
  @Option(
    help: ArgumentHelp("Share of the run, at its end, over which the weights are averaged (default 0).", valueName: "F")
  ) var average: Float?
  @Option(
    help: ArgumentHelp("Start from the weights of this run, whose side network has the same shape.", valueName: "run"),
    completion: .directory)
  var warmStart: String?
  @Option(help: ArgumentHelp("adamw (default), or adamw8bit: its state in a quarter of the memory.", valueName: "name"))
  var optimizer: String?
  @Option(help: ArgumentHelp("Largest gradient norm; 0 never clips (default 1).", valueName: "F")) var clip: Float?
  @Option(
    help: ArgumentHelp(
      "exact (default): the loss over the whole vocabulary in every step; cached: once for each sample, then over its likeliest entries and one for the rest (with --cache).",
      valueName: "kind"))
  var head: String?
  @Flag(help: "Work every vocabulary entry's part of the head's gradient, without drawing among the smallest: slow.")
  var exactGradient = false
  @Option(help: ArgumentHelp("Seed of initialisation, order and dropout (default 0).", valueName: "S")) var seed:
    UInt64?
  @Option(help: ArgumentHelp("Steps between checkpoints (default 100).", valueName: "N")) var checkpointEvery: Int?
  @Option(help: ArgumentHelp("Steps between validations (default: an epoch).", valueName: "N")) var validateEvery: Int?

  mutating func run() async throws {
    if let config { try mergeConfiguration(config) }
    let settings = try trainingConfiguration()
    guard let data else { throw LadderError(.usage, "no --data: name the JSONL file to learn from") }
    guard let out else { throw LadderError(.usage, "no --out: name a folder for the run") }
    let samples = try Sample.load(data)
    let validation = try valid.map { try Sample.load($0) }
    let cacheOptions = try cacheOptions()
    let backbone = try options.load(cache: cacheOptions?.directory, trainsInside: !settings.method.keepsActivations)
    Terminal.note(
      "\(backbone.file.name ?? "model"): \(backbone.blocks) blocks of width \(backbone.width), \(Terminal.bytes(backbone.weightsBytes)) on \(backbone.deviceName)"
    )
    let resume = resume
    let last = try await interruptible {
      try Trainer(backbone, settings, cache: cacheOptions).train(
        samples, name: data, validation: validation, into: RunDirectory(out), resume: resume, report: Self.show)
    }
    Terminal.finishLine()
    if let last {
      Terminal.note(
        "done: \(last.step) steps, \(Terminal.count(last.tokens)) tokens at \(Int(last.tokensPerSecond)) tok/s, peak \(Terminal.bytes(last.peakBytes))"
      )
    }
    Terminal.output(out)
  }

  /// One event as progress.
  private static func show(_ event: TrainingEvent) {
    switch event {
    case .stage(let what): Terminal.progress(what, always: true)
    case .samples(let kept, let trimmed, let dropped):
      let changes = [
        trimmed > 0 ? "\(trimmed) trimmed to --max-length" : nil, dropped > 0 ? "\(dropped) dropped as too long" : nil,
      ].compactMap { $0 }
      Terminal.note("\(kept) samples" + (changes.isEmpty ? "" : " (" + changes.joined(separator: ", ") + ")"))
    case .resumed(let step): Terminal.note("resuming after step \(step)")
    case .step(let s):
      Terminal.progress(
        String(
          format: "step %d/%d  epoch %.2f  loss %.4f  lr %.1e  %d tok/s  %@  %@ left", s.step, s.totalSteps, s.epoch,
          s.loss, s.learningRate,
          Int(s.tokensPerSecond), Terminal.bytes(s.peakBytes), Terminal.time(s.secondsLeft)),
        always: s.step == s.totalSteps)
    case .validation(let step, let loss, let isBest):
      Terminal.note(String(format: "step %d: validation loss %.4f%@", step, loss, isBest ? " (best so far, kept)" : ""))
    case .checkpoint: break
    case .headDrift(let steps, let loss, let gradient):
      Terminal.note(
        String(
          format: "the cached head against the exact one in %d steps: loss %+.4f nats a row, gradient %.1f%% off",
          steps, loss, 100 * gradient))
    case .cacheStopped(let why): Terminal.note("the cache stores no more: \(why); training goes on without it")
    }
  }

  private func cacheOptions() throws -> CacheOptions? {
    guard let cache else {
      if cacheFormat != nil || cacheLimit != nil {
        throw LadderError(.usage, "--cache-format and --cache-limit go with --cache")
      }
      return nil
    }
    var options = CacheOptions(directory: cache, format: .bf16)
    if let cacheFormat {
      guard let format = CacheFormat(rawValue: cacheFormat) else {
        throw LadderError(.usage, "--cache-format \(cacheFormat): take bf16 or q8_0")
      }
      options.format = format
    }
    options.limit = try cacheLimit.map { try ByteCount.parse($0, option: "--cache-limit") }
    return options
  }

  private func preferenceSettings(_ objective: Objective?) throws -> PreferenceSettings? {
    guard objective == .preference else {
      for (option, isGiven) in [
        ("--preference-loss", preferenceLoss != nil), ("--beta", beta != nil),
        ("--label-smoothing", labelSmoothing != nil),
      ]
      where isGiven { throw LadderError(.usage, "\(option) goes with --objective preference") }
      return nil
    }
    var settings = PreferenceSettings()
    if let loss = try choice(
      "--preference-loss", preferenceLoss, "sigmoid, ipo, orpo or simpo", PreferenceSettings.Loss.init)
    {
      settings.loss = loss
    }
    if let beta { settings.beta = beta }
    if let labelSmoothing { settings.labelSmoothing = labelSmoothing }
    return settings
  }

  private func trainingConfiguration() throws -> TrainingConfiguration {
    var settings = TrainingConfiguration()
    try method.apply(to: &settings)
    func set<T>(_ path: WritableKeyPath<TrainingConfiguration, T>, _ value: T?) {
      if let value { settings[keyPath: path] = value }
    }
    set(\.epochs, epochs)
    settings.steps = steps
    set(\.maxLength, maxLength)
    set(\.overlong, try choice("--overlong", overlong, "trim or drop", Overlong.init))
    settings.objective = try choice("--objective", objective, "tokens, choices or preference", Objective.init)
    settings.preference = try preferenceSettings(settings.objective)
    set(\.batchSize, batchSize)
    set(\.microBatchTokens, microBatch)
    set(\.learningRate, learningRate)
    set(\.schedule, try choice("--schedule", schedule, "cosine, linear or constant", Schedule.init))
    set(\.warmup, warmup)
    set(\.weightDecay, weightDecay)
    set(\.clip, clip)
    set(\.averaging, average)
    settings.warmStart = warmStart
    set(
      \.eightBitOptimiser,
      try choice("--optimizer", optimizer, "adamw or adamw8bit") { ["adamw": false, "adamw8bit": true][$0] })
    settings.filtersGradient = !exactGradient
    // Exact is what no word means too: runs that differ in that alone are alike.
    settings.head = try choice("--head", head, "exact or cached", HeadMode.init) == .cached ? .cached : nil
    set(\.seed, seed)
    set(\.checkpointEvery, checkpointEvery)
    set(\.validateEvery, validateEvery)
    return settings
  }

  /// Takes from the YAML file what the command line leaves open, by reading it as more command line.
  private mutating func mergeConfiguration(_ path: String) throws {
    let given = CommandLine.arguments.drop { $0 != Self._commandName }.dropFirst()
    let arguments = try ConfigurationFile(path: path).arguments(excluding: given.map { String($0) })
    do {
      self = try Train.parse(arguments + given)
    } catch {
      throw LadderError(.usage, "\(path): \(Train.message(for: error))")
    }
  }
}
