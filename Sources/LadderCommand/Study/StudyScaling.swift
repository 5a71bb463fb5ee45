import ArgumentParser
import Ladder
import LadderStudy

struct StudyScaling: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "scaling",
    abstract: "Loss over training compute for LST and QLoRA, with fitted slopes.",
    discussion: """
      Trains every size on every budget, judges each on --dev, and fits L = a·C^(-b) + c to each method's points, with
      intervals for b by resampling. With --tflop every size trains on as many samples as the budget pays for (IsoFLOP):
      a parabola over the size finds each budget's least loss, and slopes go through those. What is finished is never run again. OUT/scaling.html has the plot.
      """)

  private static let defaults = ScalingStudy.Options(train: "", dev: "")

  @Option(help: ArgumentHelp("The backbone.", valueName: "file.gguf"), completion: .file(extensions: ["gguf"]))
  var model: String
  @Option(help: ArgumentHelp("Training samples.", valueName: "file.jsonl"), completion: .file(extensions: ["jsonl"]))
  var data: String
  @Option(help: ArgumentHelp("Samples to judge by.", valueName: "file.jsonl"), completion: .file(extensions: ["jsonl"]))
  var dev: String
  @Option(help: ArgumentHelp("Folder for runs and findings.", valueName: "folder"), completion: .directory) var out:
    String
  @Option(help: ArgumentHelp("LST's reductions.", valueName: "N,N,…")) var reductions = "10,5,2.5"
  @Option(help: ArgumentHelp("QLoRA's ranks.", valueName: "R,R,…")) var ranks = "4,16,64"
  @Option(help: ArgumentHelp("Training samples of each budget.", valueName: "N,N,…")) var budgets = "250,500,1000,2000"
  @Option(
    help: ArgumentHelp(
      "Budgets in 10^12 operations, in place of samples: each size trains on what they pay for. Wants four or more "
        + "--reductions and --ranks.", valueName: "C,C,…"))
  var tflop: String?
  @Option(help: ArgumentHelp("Samples of --dev that are judged.", valueName: "N")) var devLimit = Self.defaults.devLimit
  @Option(help: ArgumentHelp("Tokens of the longest sample.", valueName: "T")) var maxLength = Self.defaults.maxLength
  @Option(help: ArgumentHelp("Samples of one step.", valueName: "B")) var batchSize = Self.defaults.batchSize
  @Option(help: ArgumentHelp("LST's peak learning rate.", valueName: "LR")) var lstLearningRate = Self.defaults
    .learningRates.lst
  @Option(help: ArgumentHelp("QLoRA's peak learning rate.", valueName: "LR")) var qloraLearningRate = Self.defaults
    .learningRates.qlora
  @Option(
    help: ArgumentHelp("Folder that keeps the model's activations for LST.", valueName: "folder"),
    completion: .directory) var cache: String?
  @Option(help: ArgumentHelp("CPU threads.", valueName: "N")) var threads: Int?
  @Option(help: ArgumentHelp("Device to run on.", valueName: "name")) var device: String?
  @Flag(help: "Print the findings as JSON, not as Markdown.") var json = false

  func run() async throws {
    var options = ScalingStudy.Options(train: data, dev: dev)
    let parsed = reductions.split(separator: ",").map { Double($0) }
    guard !parsed.isEmpty, !parsed.contains(nil) else {
      throw LadderError(.usage, "--reductions \(reductions): write numbers, as in 10,5,2.5")
    }
    options.reductions = parsed.compactMap { $0 }
    options.ranks = try numberList(ranks, "--ranks")
    options.budgets = try numberList(budgets, "--budgets")
    if let tflop {
      let budgets = tflop.split(separator: ",").map { Double($0) }
      guard !budgets.isEmpty, !budgets.contains(nil) else {
        throw LadderError(.usage, "--tflop \(tflop): write numbers, as in 1,3,10,30")
      }
      options.teraOperations = budgets.compactMap { $0 }
    }
    options.devLimit = devLimit
    options.maxLength = maxLength
    options.batchSize = batchSize
    options.learningRates = (lstLearningRate, qloraLearningRate)
    options.cache = cache
    options.machine.threads = threads
    options.machine.device = device
    let study = try ScalingStudy(model: try await ModelName.path(model), folder: out, options)
    let findings = try await interruptible(saves: true) { try study.run(ProcessRunner()) { Terminal.progress($0) } }
    Terminal.finishLine()
    Terminal.output(json ? try Terminal.json(findings) : ScalingStudy.markdown(findings))
    Terminal.note("\(out)/scaling.html has the plot")
  }
}
