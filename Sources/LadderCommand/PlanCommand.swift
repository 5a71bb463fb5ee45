import ArgumentParser
import Foundation
import Ladder
import LadderServe
import LadderStudy

struct PlanCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Predict what fits: peak memory and time of the methods at several lengths.",
    discussion: """
      Reads the header of the model's file, and measures three blocks of its kind and its head on this machine: ten
      seconds for a small one, a minute for a 7B.
      --measure loads the model instead and takes two real steps with the options given. --serve predicts what `ladder serve`
      takes with its --ladders, --adapter, --context and --texts.
      """)

  @OptionGroup var options: ModelOptions
  @OptionGroup var method: MethodArguments
  @Option(help: ArgumentHelp("Plan for a model of this shape, before it is fetched.", valueName: "name")) var shape:
    String?
  @Option(help: ArgumentHelp("Longest sample to plan for (default: 512, 2048 and 8192).", valueName: "T"))
  var maxLength: Int?
  @Option(help: ArgumentHelp("Share of the tokens that carry loss.", valueName: "F")) var lossShare = 1.0
  @Option(help: ArgumentHelp("Memory to fit in, e.g. 12GB.", valueName: "size")) var memory: ByteSize?
  @Flag(help: "Predict memory alone, at once.") var noTime = false
  @Flag(help: "Plan only for the method that the options describe.") var only = false
  @Flag(help: "Load the model and take two real steps with these options.") var measure = false
  @Option(
    help: ArgumentHelp(
      "Samples in memory at once (default: as many as training packs, 16 or 2,048 tokens at most).", valueName: "B"))
  var sequences: Int?
  @Flag(help: "Predict the memory of serving the model and its runs.") var serve = false
  @OptionGroup(title: "Serving") var served: ServedArguments
  @Flag(help: "Print one JSON object.") var json = false

  func run() async throws {
    var planned = Plan.Options()
    if let maxLength {
      guard maxLength >= 2 else { throw LadderError(.usage, "--max-length must be 2 or more") }
      planned.lengths = [maxLength]
    }
    guard lossShare > 0, lossShare <= 1 else { throw LadderError(.usage, "--loss-share must be above 0 and at most 1") }
    if !serve, served.isGiven {
      throw LadderError(.usage, "--ladders, --adapter, --context and --texts go with --serve")
    }
    if serve, shape != nil, served.ladders != nil || !served.adapter.isEmpty {
      throw LadderError(.usage, "a --shape has no runs: plan for its model's file with --ladders and --adapter")
    }
    if serve, measure { throw LadderError(.usage, "--measure is of a training: leave it out with --serve") }
    if !measure, !options.workers.isEmpty || options.gpuLayers != nil {
      throw LadderError(
        .usage, "a prediction is of one device that holds the whole model: --workers and --gpu-layers go with --measure"
      )
    }
    guard (1...1 << 16).contains(sequences ?? 1) else {
      throw LadderError(.usage, "--sequences must be 1 to \(1 << 16)")
    }
    planned.lossShare = lossShare
    planned.sequences = sequences
    planned.memory = memory?.bytes
    planned.predictsTime = !noTime
    planned.threads = options.threads
    planned.device = options.device
    planned.onlyOwn = only
    var own = TrainingConfiguration()
    own.method = try method.options.chosen()
    if only || own.method != TrainingConfiguration().method { planned.own = own.method }

    let temporary = try await TemporaryModel.make(shape, besides: options.model, "Q4_0", headerOnly: !measure)
    defer { temporary?.remove() }
    guard let path = try await ModelName.path(temporary?.path ?? options.model) else {
      throw LadderError(.usage, "no --model: name a GGUF file, or a --shape")
    }
    if measure { return try await measureSteps(path, own, planned) }
    let file = try GGUFFile(path: path, headerOnly: temporary != nil)
    if serve {
      let fingerprint = shape == nil ? try file.fingerprint() : nil
      return try show(try GenerationMemory(file, fingerprint, try served.settings()))
    }
    let final = planned
    let rows = try await interruptible { try Plan.rows(file, final) { Terminal.progress($0) } }
    Terminal.finishLine()
    if json {
      Terminal.output(
        try Terminal.json(["model": file.name ?? path]).dropLast() + ",\"rows\":" + Terminal.json(rows) + "}")
    } else {
      show(rows)
    }
  }

  private func measureSteps(_ path: String, _ own: TrainingConfiguration, _ planned: Plan.Options) async throws {
    var settings = own
    settings.maxLength = planned.lengths[planned.lengths.count / 2]
    let sequences = planned.sequences(of: settings.maxLength)
    settings.microBatchTokens = max(settings.microBatchTokens, sequences * settings.maxLength)
    var measured = SpeedBenchmark.Options()
    measured.length = settings.maxLength
    measured.lossRows = max(1, Int(Double(settings.maxLength) * lossShare))
    measured.steps = 2
    measured.sequences = sequences
    let benchmark = SpeedBenchmark(
      try await options.load(path: path, trainsInside: !own.method.keepsActivations), settings, measured)
    let result = try await interruptible { try benchmark.twoSteps { Terminal.progress($0) } }
    Terminal.finishLine()
    if json { return Terminal.output(try Terminal.json(result)) }
    let fits = planned.memory.map { result.peakBytes <= $0 ? ", fits" : ", does not fit" } ?? ""
    Terminal.output(
      String(
        format: "measured at %@ tokens: peak %@%@, %.2f s per 1000 tokens",
        Self.tokens(sequences, settings.maxLength),
        Terminal.bytes(result.peakBytes), fits,
        result.secondsPerThousandTokens))
  }

  private func show(_ serving: GenerationMemory) throws {
    if json { return Terminal.output(try Terminal.json(serving)) }
    let parts = [
      ("the program", serving.process), ("the model", serving.weights), ("what was trained", serving.runs),
      ("keys and values, the engine's own", serving.contexts), ("what is kept of texts", serving.texts),
      ("logits", serving.head),
    ]
    for (name, bytes) in parts { Terminal.output(Self.padded(name, 36) + Terminal.bytes(bytes)) }
    let fits = memory.map { serving.total <= $0.bytes ? ", fits \($0.optionText)" : ", does not fit \($0.optionText)" }
    Terminal.output(Self.padded("at most", 36) + Terminal.bytes(serving.total) + (fits ?? ""))
  }

  /// Samples in memory at once × their length; one's is not told.
  private static func tokens(_ sequences: Int, _ length: Int) -> String {
    sequences == 1 ? String(length) : "\(sequences) × \(length)"
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text.padding(toLength: max(width, text.count), withPad: " ", startingAt: 0)
  }

  private func show(_ rows: [Plan.Row]) {
    let pad = Self.padded
    let width = max(20, rows.map(\.options.count).max() ?? 0)
    Terminal.output(
      pad("method", 9) + pad("options", width + 2) + "      tokens  parameters       peak   s/1000 tokens"
        + (memory.map { "  fits \($0.optionText)" } ?? ""))
    for row in rows {
      let seconds = row.secondsPerThousandTokens.map { String(format: "%.2f", $0) } ?? "–"
      let fits = row.fits.map { $0 ? "  yes" : "  no" } ?? ""
      let cells = [
        Self.tokens(row.sequences, row.length), Terminal.count(row.parameters), Terminal.bytes(row.peakBytes), seconds,
      ]
      let widths = [12, 12, 11, 16]
      let columns = zip(cells, widths).map { String(repeating: " ", count: max(0, $1 - $0.count)) + $0 }.joined()
      Terminal.output(pad(row.method, 9) + pad(row.options, width + 2) + columns + fits)
    }
  }
}
