import ArgumentParser
import Ladder

/// How a run is trained.
struct TrainingArguments: ParsableArguments {
  @OptionGroup var method: MethodArguments

  @Option(help: ArgumentHelp("Passes over the data (default 1).", valueName: "E")) var epochs: Double?
  @Option(help: ArgumentHelp("Optimiser steps, instead of --epochs.", valueName: "N")) var steps: Int?
  @Option(help: ArgumentHelp("Tokens of the longest sample (default 1024).", valueName: "T")) var maxLength: Int?
  @Option(
    help: ArgumentHelp(
      "What becomes of a longer sample: trim (a prompt's start and a conversation's oldest turns are cut, a text is "
        + "taken in pieces; default) or drop.", valueName: "what"))
  var overlong: Overlong?
  @OptionGroup var chat: ChatArguments
  @Option(
    help: ArgumentHelp(
      "Turns that the chat template renders otherwise once others follow: separate (each is learned in a view of its "
        + "own; default) or omit.",
      valueName: "what"))
  var earlierTurns: EarlierTurns?
  @Option(
    help: ArgumentHelp(
      """
      tokens (the whole vocabulary; default); choices: those of a sample against each other alone, to judge, not to generate; or \
      preference: the chosen of two answers against the rejected one.
      """,
      valueName: "what"))
  var objective: Objective?
  @Option(help: ArgumentHelp("How pairs are compared: sigmoid is DPO (default).", valueName: "kind"))
  var preferenceLoss: PreferenceSettings.Loss?
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
  @Option(help: ArgumentHelp("How the learning rate falls (default cosine).", valueName: "kind"))
  var schedule: Schedule?
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
  var optimizer: TrainingOptions.Optimizer?
  @Option(help: ArgumentHelp("Largest gradient norm; 0 never clips (default 1).", valueName: "F")) var clip: Float?
  @Option(
    help: ArgumentHelp(
      "exact (default): the loss over the whole vocabulary in every step; cached: once for each sample, then "
        + "over its likeliest entries and one for the rest (with --cache).",
      valueName: "kind"))
  var head: HeadMode?
  @Flag(help: "Work every vocabulary entry's part of the head's gradient, without drawing among the smallest: slow.")
  var exactGradient = false
  @Option(
    help: ArgumentHelp(
      "How gradients travel where mpirun started several processes: f32 (default), or bf16: half the bytes, rounded.",
      valueName: "kind"))
  var gradientFormat: GradientFormat?
  @Option(help: ArgumentHelp("Seed of initialisation, order and dropout (default 0).", valueName: "S")) var seed:
    UInt64?
  @Option(help: ArgumentHelp("Steps between checkpoints (default 100).", valueName: "N")) var checkpointEvery: Int?
  @Option(help: ArgumentHelp("Steps between validations (default: an epoch).", valueName: "N")) var validateEvery: Int?

  var options: TrainingOptions {
    var options = TrainingOptions()
    options.method = method.options
    options.epochs = epochs
    options.chatTemplate = chat.chatTemplate
    options.chatTemplateOptions = chat.chatTemplateOptions
    options.earlierTurns = earlierTurns
    options.steps = steps
    options.maxLength = maxLength
    options.overlong = overlong
    options.objective = objective
    options.preferenceLoss = preferenceLoss
    options.beta = beta
    options.labelSmoothing = labelSmoothing
    options.batchSize = batchSize
    options.microBatch = microBatch
    options.learningRate = learningRate
    options.schedule = schedule
    options.warmup = warmup
    options.weightDecay = weightDecay
    options.average = average
    options.warmStart = warmStart
    options.optimizer = optimizer
    options.clip = clip
    options.head = head
    options.exactGradient = exactGradient ? true : nil
    options.gradientFormat = gradientFormat
    options.seed = seed
    options.checkpointEvery = checkpointEvery
    options.validateEvery = validateEvery
    return options
  }
}
