import ArgumentParser
import Ladder

/// What is trained, wherever it is trained, measured or planned: a side network's shape, or an adapter's.
struct MethodArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "lst (default); xladder: --passes climbs (default 2), or --depth; or qlora: low-rank matrices inside the model, "
        + "through which it is back-propagated.",
      valueName: "name"))
  var method: MethodOptions.Name?

  @Option(
    help: ArgumentHelp(
      "Width of the model over width of the side network (default: a side width of 256, or an eighth).", valueName: "N")
  )
  var reduction: Double?

  @Option(
    help: ArgumentHelp(
      "middle (three blocks around the middle, default), all (but the last), N for every N-th, a list i,j,k from 1, "
        + "where 0 is the embedding, or i, (with its comma) for one block; to read the last block the engine has to "
        + "put out every row.",
      valueName: "rungs"))
  var rungs: SideConfiguration.Rungs?

  @Option(
    help: ArgumentHelp(
      "How often the ladder is climbed: more than 1 is xLadder, deeper and narrower at the same parameter count.",
      valueName: "P"))
  var passes: Int?

  @Option(
    help: ArgumentHelp(
      "xLadder in the paper's form: the first D side layers read the top D blocks before the last (or --rungs), --free "
        + "more read nothing.",
      valueName: "D"))
  var depth: Int?

  @Option(help: ArgumentHelp("Side layers that read nothing (default as many as --depth).", valueName: "N"))
  var free: Int?

  @Option(
    help: ArgumentHelp(
      "How xLadder's layers meet the rungs: reclimb (in order, again; default), or mixture (each a learned "
        + "mixture of all).",
      valueName: "kind"))
  var cross: SideConfiguration.CrossConnection?

  @Option(
    help: ArgumentHelp(
      "standardised (default), rms, or downsampled: the RMS norm once more behind the downsampler.", valueName: "kind"))
  var tapNorm: SideConfiguration.TapNorm?

  @Option(
    help: ArgumentHelp(
      "Standardise taps over all tokens (default), or over answers: the rows that carry loss; for samples with "
        + "choices.",
      valueName: "rows"))
  var tapStatistics: SideConfiguration.StatisticsRows?

  @Option(
    help: ArgumentHelp(
      "on: a bias behind the side network, with --objective choices started where answers are as frequent as "
        + "the samples'; off (default).",
      valueName: "switch"))
  var outputBias: Switch?

  @Option(help: ArgumentHelp("Width of one attention head of the side network (default 64).", valueName: "N"))
  var headSize: Int?

  @Option(help: ArgumentHelp("How taps become narrow (default linear).", valueName: "kind"))
  var downsample: SideConfiguration.Downsampler?

  @Option(
    help: ArgumentHelp(
      "random (default), backbone (pruned copies of the model's blocks), xavier, he or orthogonal.", valueName: "kind"))
  var `init`: SideConfiguration.Initialisation?

  @Option(help: ArgumentHelp("Share of tap channels dropped while training (default 0.2).", valueName: "F"))
  var tapDropout: Float?

  @Option(help: ArgumentHelp("Products of the side network (default bf16).", valueName: "kind"))
  var precision: SideConfiguration.Precision?

  @Option(
    help: ArgumentHelp(
      "How a side layer takes in what it reads: scalar (one number, default), channel, lstm (of each token), or sum.",
      valueName: "kind"))
  var gates: SideConfiguration.Gates?

  @Option(help: ArgumentHelp("Temperature of the gates (default 0.1).", valueName: "F"))
  var gateTemperature: Float?

  @Option(help: ArgumentHelp("QLoRA's rank (default 16).", valueName: "R"))
  var rank: Int?

  @Option(help: ArgumentHelp("QLoRA's alpha: the addition is scaled by alpha / rank (default 32).", valueName: "A"))
  var alpha: Float?

  @Option(help: ArgumentHelp("Share of channels that QLoRA drops before its additions (default 0).", valueName: "F"))
  var dropout: Float?

  @Option(
    help: ArgumentHelp(
      "QLoRA's matrices: all-linear (default), attn, or a list of q,k,v,o,gate,up,down.", valueName: "names"))
  var targets: LoRAConfiguration.Targets?

  @Option(
    help: ArgumentHelp(
      "QLoRA's blocks: the last N, or a-b counted from 1 (default all). What lies below runs at the engine's speed, and "
        + "--cache keeps it.",
      valueName: "N|a-b"))
  var blocks: LoRAConfiguration.Blocks?

  @Option(
    help: ArgumentHelp(
      "on: QLoRA keeps each block's input alone and computes the rest again; off (default).", valueName: "switch"))
  var checkpointing: Switch?

  @Option(
    help: ArgumentHelp(
      "The Hugging Face model that QLoRA's files for PEFT name as theirs, by its hub's name or its folder (default: "
        + "what the GGUF's metadata name, or the GGUF itself).",
      valueName: "owner/name"))
  var baseModel: String?

  var options: MethodOptions {
    var options = MethodOptions()
    options.method = method
    options.reduction = reduction
    options.rungs = rungs
    options.passes = passes
    options.depth = depth
    options.free = free
    options.cross = cross
    options.tapNorm = tapNorm
    options.tapStatistics = tapStatistics
    options.outputBias = outputBias
    options.headSize = headSize
    options.downsample = downsample
    options.initialisation = self.`init`
    options.tapDropout = tapDropout
    options.precision = precision
    options.gates = gates
    options.gateTemperature = gateTemperature
    options.rank = rank
    options.alpha = alpha
    options.dropout = dropout
    options.targets = targets
    options.blocks = blocks
    options.checkpointing = checkpointing
    options.baseModel = baseModel
    return options
  }
}
