import ArgumentParser
import Ladder
import LadderStudy

struct StudyDepth: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "depth",
    abstract: "Does depth in the side network replace written-out reasoning?",
    discussion: """
      Problems of 1 to --deepest arithmetic steps, each on the result of the one before, learned with none, half or all
      of the results written out; or, with --problems hops, of links between letters to follow within one token: LST
      against xLadders, each with the parameters of an LST on the rungs that it reads (LST's own, but for --depths of
      another number). What is finished is never run again.
      OUT/depth.html has the plots; depth.md and depth.json the numbers.
      """)

  private static let defaults = DepthStudy.Options()

  @Option(help: ArgumentHelp("The backbone.", valueName: "file.gguf"), completion: .file(extensions: ["gguf"]))
  var model: String
  @Option(help: ArgumentHelp("Folder for runs and findings.", valueName: "folder"), completion: .directory) var out:
    String
  @Option(help: ArgumentHelp("Folder that keeps the model's activations.", valueName: "folder"), completion: .directory)
  var cache: String?
  @Option(help: ArgumentHelp("arithmetic, or hops.", valueName: "kind")) var problems = DepthStudy.Problems.arithmetic
  @Option(help: ArgumentHelp("The xLadders' climbs (default: 2,3,4; none with --depths).", valueName: "P,P,…"))
  var passes: String?
  @Option(
    help: ArgumentHelp(
      "xLadders in the paper's form: layers that read, the top blocks or --rungs where those are as many.",
      valueName: "D,D,…"))
  var depths: String?
  @Option(help: ArgumentHelp("Seeds.", valueName: "S,S,…")) var seeds = "0"
  @Option(
    help: ArgumentHelp("Most steps of a problem (default: 8, or half the letters of hops).", valueName: "K"))
  var deepest: Int?
  @Option(help: ArgumentHelp("Problems of each depth to learn from.", valueName: "N")) var trainEach = Self.defaults
    .trainEach
  @Option(help: ArgumentHelp("Problems of each depth to be judged on.", valueName: "N")) var devEach = Self.defaults
    .devEach
  @Option(help: ArgumentHelp("Passes over the problems.", valueName: "E")) var epochs = Self.defaults.epochs
  @Option(help: ArgumentHelp("Peak learning rate.", valueName: "LR")) var learningRate = Self.defaults.learningRate
  @Option(help: ArgumentHelp("Samples of a step.", valueName: "N")) var batchSize = Self.defaults.batchSize
  @Option(help: ArgumentHelp("Results are digits below this prime: 3, 5 or 7.", valueName: "M")) var modulus = Self
    .defaults.modulus
  @Option(help: ArgumentHelp("Letters that hops lead between.", valueName: "N")) var letters = Self.defaults.letters
  @Option(help: ArgumentHelp("Rungs, as in training.", valueName: "rungs")) var rungs: SideConfiguration.Rungs?
  @Option(help: ArgumentHelp("Device to run on.", valueName: "name")) var device: String?
  @Flag(help: "Print the numbers as JSON, not as Markdown.") var json = false

  func run() async throws {
    var options = DepthStudy.Options()
    options.problems = problems
    options.letters = letters
    options.depths = try depths.map { try numberList($0, "--depths") } ?? []
    options.passes =
      try passes.map { try numberList($0, "--passes") } ?? (depths == nil ? Self.defaults.passes : [])
    options.seeds = try numberList(seeds, "--seeds")
    options.deepest = deepest
    options.trainEach = trainEach
    options.devEach = devEach
    options.cache = cache
    options.epochs = epochs
    options.learningRate = learningRate
    options.batchSize = batchSize
    options.modulus = modulus
    options.run.training.method.rungs = rungs
    options.run.machine.device = device
    let study = try DepthStudy(options, folder: out, model: try await ModelName.path(model))
    let rows = try await interruptible(saves: true) { try study.run(ProcessRunner()) { Terminal.progress($0) } }
    Terminal.finishLine()
    Terminal.output(json ? "{\"rows\":\(try Terminal.json(rows))}" : DepthStudy.markdown(rows))
    Terminal.note("\(out)/depth.html has the plots")
  }
}
