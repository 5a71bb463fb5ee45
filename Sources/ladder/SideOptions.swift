import ArgumentParser
import Ladder

/// What decides a side network's shape, wherever one is trained, measured or planned.
struct SideOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("Width of the model over width of the side network (default: a side width of 256, or an eighth).", valueName: "N"))
  var reduction: Double?

  @Option(
    help: ArgumentHelp("middle (three blocks around the middle, default), all, every N-th, or a list i,j,k from 1.", valueName: "rungs"))
  var rungs: String?

  @Option(
    help: ArgumentHelp("How often the ladder is climbed: more than 1 is xLadder, deeper and narrower at the same parameter count.", valueName: "P"))
  var passes: Int?

  @Option(
    help: ArgumentHelp(
      "How xLadder's layers meet the rungs: reclimb (in order, again; default), or mixture (each a learned mixture of all).", valueName: "kind"))
  var cross: String?

  @Option(help: ArgumentHelp("standardised (default), rms, or downsampled: the RMS norm once more behind the downsampler.", valueName: "kind"))
  var tapNorm: String?

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

  /// - Throws: `usage` for a value that cannot be read.
  func configuration() throws -> SideConfiguration {
    var side = SideConfiguration()
    side.reduction = reduction
    if let passes { side.passes = passes }
    if let value = try choice("--cross", cross, "reclimb or mixture", SideConfiguration.CrossConnection.init) { side.cross = value }
    if let value = try choice("--tap-norm", tapNorm, "standardised, rms or downsampled", SideConfiguration.TapNorm.init) { side.tapNorm = value }
    if let headSize { side.headSize = headSize }
    if let value = try choice("--rungs", rungs, "middle, all, a number, or a list i,j,k", SideConfiguration.Rungs.init) { side.rungs = value }
    if let value = try choice("--downsample", downsample, "linear, lowrank:K or pool", SideConfiguration.Downsampler.init) { side.downsampler = value }
    if let value = try choice("--init", self.`init`, "random or backbone", SideConfiguration.Initialisation.init) { side.initialisation = value }
    if let tapDropout { side.tapDropout = tapDropout }
    if let value = try choice("--precision", precision, "bf16 or f32", SideConfiguration.Precision.init) { side.precision = value }
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
