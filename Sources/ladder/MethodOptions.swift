import ArgumentParser
import Ladder

/// What is trained, wherever it is trained, measured or planned: a side network's shape, or an adapter's.
struct MethodOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "lst (default); xladder: --passes climbs (default 2); or qlora: low-rank matrices inside the model, through which it is back-propagated.",
      valueName: "name"))
  var method: String?

  @Option(
    help: ArgumentHelp(
      "Width of the model over width of the side network (default: a side width of 256, or an eighth).", valueName: "N")
  )
  var reduction: Double?

  @Option(
    help: ArgumentHelp(
      "middle (three blocks around the middle, default), all, every N-th, or a list i,j,k from 1.", valueName: "rungs"))
  var rungs: String?

  @Option(
    help: ArgumentHelp(
      "How often the ladder is climbed: more than 1 is xLadder, deeper and narrower at the same parameter count.",
      valueName: "P"))
  var passes: Int?

  @Option(
    help: ArgumentHelp(
      "How xLadder's layers meet the rungs: reclimb (in order, again; default), or mixture (each a learned mixture of all).",
      valueName: "kind"))
  var cross: String?

  @Option(
    help: ArgumentHelp(
      "standardised (default), rms, or downsampled: the RMS norm once more behind the downsampler.", valueName: "kind"))
  var tapNorm: String?

  @Option(
    help: ArgumentHelp(
      "Standardise taps over all tokens (default), or over answers: the rows that carry loss; for samples with choices.",
      valueName: "tokens|answers"))
  var tapStatistics: String?

  @Option(
    help: ArgumentHelp(
      "on: a bias behind the side network, with --objective choices started where answers are as frequent as the samples'; off (default).",
      valueName: "on|off"))
  var outputBias: String?

  @Option(help: ArgumentHelp("Width of one attention head of the side network (default 64).", valueName: "N"))
  var headSize: Int?

  @Option(help: ArgumentHelp("linear (default), lowrank:K or pool.", valueName: "kind"))
  var downsample: String?

  @Option(help: ArgumentHelp("random (default), or backbone: pruned copies of the model's blocks.", valueName: "kind"))
  var `init`: String?

  @Option(help: ArgumentHelp("Share of tap channels dropped while training (default 0.2).", valueName: "F"))
  var tapDropout: Float?

  @Option(help: ArgumentHelp("Products of the side network in bf16 (default) or f32.", valueName: "kind"))
  var precision: String?

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
  var targets: String?

  @Option(
    help: ArgumentHelp(
      "on: QLoRA keeps each block's input alone and computes the rest again; off (default).", valueName: "on|off"))
  var checkpointing: String?

  /// Sets what is trained.
  /// - Throws: `usage` for a value that cannot be read, or options of one method with another.
  func apply(to settings: inout TrainingConfiguration) throws {
    settings.method = try tuning()
  }

  private func tuning() throws -> Method {
    var side = try side()
    let loraOptions = [
      ("--rank", rank != nil), ("--alpha", alpha != nil), ("--dropout", dropout != nil), ("--targets", targets != nil),
      ("--checkpointing", checkpointing != nil),
    ]
    if method != "qlora", let option = loraOptions.first(where: \.1)?.0 {
      throw LadderError(.usage, "\(option) goes with --method qlora")
    }
    switch method {
    case nil: return .ladder(side)
    case "lst":
      guard side.passes == 1 else {
        throw LadderError(.usage, "--method lst climbs once; for --passes \(side.passes) take --method xladder")
      }
      return .ladder(side)
    case "xladder":
      if passes == nil { side.passes = 2 }
      guard side.passes > 1 else {
        throw LadderError(.usage, "--method xladder climbs more than once; take --passes 2 or more")
      }
      return .ladder(side)
    case "qlora":
      guard side == SideConfiguration() else {
        throw LadderError(.usage, "--method qlora trains no side network; leave its options out")
      }
      return .lora(try lora())
    case let other?: throw LadderError(.usage, "--method \(other): take lst, xladder or qlora")
    }
  }

  private func lora() throws -> LoRAConfiguration {
    var lora = LoRAConfiguration()
    if let rank { lora.rank = rank }
    if let alpha { lora.alpha = alpha }
    if let dropout { lora.dropout = dropout }
    if let value = try choice(
      "--targets", targets, "all-linear, attn, or a list of q,k,v,o,gate,up,down", LoRAConfiguration.targets)
    {
      lora.targets = value
    }
    if let value = try choice("--checkpointing", checkpointing, "on or off", { ["on": true, "off": false][$0] }) {
      lora.checkpointing = value
    }
    return lora
  }

  /// The options as they were given, for a process of its own.
  var arguments: [String] {
    let given: [(String, (any CustomStringConvertible)?)] = [
      ("--method", method), ("--reduction", reduction), ("--rungs", rungs), ("--passes", passes), ("--cross", cross),
      ("--tap-norm", tapNorm),
      ("--tap-statistics", tapStatistics), ("--output-bias", outputBias), ("--head-size", headSize),
      ("--downsample", downsample), ("--init", self.`init`),
      ("--tap-dropout", tapDropout), ("--precision", precision),
      ("--gate-temperature", gateTemperature), ("--rank", rank), ("--alpha", alpha), ("--dropout", dropout),
      ("--targets", targets),
      ("--checkpointing", checkpointing),
    ]
    return given.flatMap { name, value in value.map { [name, $0.description] } ?? [] }
  }

  func side() throws -> SideConfiguration {
    var side = SideConfiguration()
    side.reduction = reduction
    if let passes { side.passes = passes }
    if let value = try choice("--cross", cross, "reclimb or mixture", SideConfiguration.CrossConnection.init) {
      side.cross = value
    }
    if let value = try choice("--tap-norm", tapNorm, "standardised, rms or downsampled", SideConfiguration.TapNorm.init)
    {
      side.tapNorm = value
    }
    side.statisticsRows = try choice(
      "--tap-statistics", tapStatistics, "tokens or answers", SideConfiguration.StatisticsRows.init)
    side.outputBias = try choice("--output-bias", outputBias, "on or off", { ["on": true, "off": false][$0] })
    if let headSize { side.headSize = headSize }
    if let value = try choice("--rungs", rungs, "middle, all, a number, or a list i,j,k", SideConfiguration.Rungs.init)
    {
      side.rungs = value
    }
    if let value = try choice(
      "--downsample", downsample, "linear, lowrank:K or pool", SideConfiguration.Downsampler.init)
    {
      side.downsampler = value
    }
    if let value = try choice("--init", self.`init`, "random or backbone", SideConfiguration.Initialisation.init) {
      side.initialisation = value
    }
    if let tapDropout { side.tapDropout = tapDropout }
    if let value = try choice("--precision", precision, "bf16 or f32", SideConfiguration.Precision.init) {
      side.precision = value
    }
    if let gateTemperature { side.gateTemperature = gateTemperature }
    return side
  }
}

/// Reads an option that is one of a few words.
/// - Throws: `usage` that names the option, what was given and what is allowed.
func choice<T>(_ option: String, _ text: String?, _ allowed: String, _ parse: (String) -> T?) throws -> T? {
  guard let text else { return nil }
  guard let value = parse(text) else { throw LadderError(.usage, "\(option) \(text): take \(allowed)") }
  return value
}
