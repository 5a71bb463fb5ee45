import ArgumentParser
import Foundation
import Ladder
import LadderStudy

struct Bench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure training and decoding against the engine's own speed, in one run.",
    discussion: """
      Without --data, sequences of --max-length tokens are made up. Without a model, --shape makes one of a known shape
      with random weights in a temporary file: its speed and memory can be known before a download.

        ladder bench --model model.gguf --data train.jsonl
        ladder bench --shape qwen2.5-0.5b --lengths 512,1024,2048,4096,8192,16384 --plot memory.svg
        ladder bench --model model.gguf --texts 16 --ladders 8
        ladder bench --shape qwen2.5-7b --max-length 2048 --loss-rows 512 --rungs 4 --reduction 16 --downsample lowrank:16
      """)

  @OptionGroup var options: ModelOptions
  @OptionGroup var method: MethodArguments
  @Option(
    help: ArgumentHelp(
      "Make a model of this shape: \(ModelShape.known.map(\.name).joined(separator: ", ")).", valueName: "name"))
  var shape: String?
  @Option(help: ArgumentHelp("Make it with so many blocks, to look at a part of a large model.", valueName: "N"))
  var shapeBlocks: Int?
  @Option(help: ArgumentHelp("Its quantisation: Q4_0 (default), Q8_0 or F16.", valueName: "type"))
  var quantisation: String?
  @Option(help: ArgumentHelp("Samples to train on.", valueName: "file.jsonl"), completion: .file(extensions: ["jsonl"]))
  var data: String?
  @Option(help: ArgumentHelp("Tokens of a made-up sequence, or of the longest sample.", valueName: "T")) var maxLength =
    512
  @Option(help: ArgumentHelp("Rows that carry loss in a made-up sequence (default: all).", valueName: "N"))
  var lossRows: Int?
  @Option(help: ArgumentHelp("Samples of one step, with --data.", valueName: "B")) var batchSize = 16
  @Option(help: ArgumentHelp("Steps that are measured.", valueName: "N")) var steps = 8
  @Option(help: ArgumentHelp("Tokens that are decoded; 0 leaves decoding out.", valueName: "N")) var decode = 48
  @Option(
    help: ArgumentHelp(
      "Measure only the peak memory, at each of these lengths in a process of its own.", valueName: "T,T,…"))
  var lengths: String?
  @Option(help: ArgumentHelp("Where --lengths draws its plot.", valueName: "file.svg")) var plot: String?
  @Option(
    help: ArgumentHelp(
      "Measure generation instead: so many texts at once, of the model and of --ladders side networks over it.",
      valueName: "N"))
  var texts: Int?
  @Option(help: ArgumentHelp("Side networks over the model, with --texts (default 8).", valueName: "N"))
  var ladders: Int?
  @Option(help: ArgumentHelp("Tokens that prompts begin with alike, with --texts (default 1000).", valueName: "N"))
  var shared: Int?
  @Flag(help: "Leave out the second pass, from the activation cache.") var noCache = false
  @Flag(help: "List the operations of a step, and on which device each runs.") var operations = false
  @Flag(help: "Print one JSON object.") var json = false

  func run() async throws {
    let most = 1 << 30
    guard (2...most).contains(maxLength), (1...most).contains(steps), (0...1 << 20).contains(decode),
      (1...most).contains(batchSize), (lossRows ?? 1) >= 1
    else {
      throw LadderError(
        .usage, "--max-length must be 2 or more, --steps, --batch-size and --loss-rows 1 or more, --decode 0 or more")
    }
    for (isAlone, words) in [
      (plot != nil && lengths == nil, "--plot goes with --lengths"),
      (texts == nil && (ladders != nil || shared != nil), "--ladders and --shared go with --texts"),
      (
        shape == nil && (shapeBlocks != nil || quantisation != nil), "--shape-blocks and --quantisation go with --shape"
      ),
    ] where isAlone { throw LadderError(.usage, words) }
    var settings = TrainingConfiguration()
    settings.method = try method.options.chosen()
    settings.maxLength = maxLength
    settings.batchSize = batchSize
    settings.microBatchTokens = max(settings.microBatchTokens, maxLength)
    var measured = SpeedBenchmark.Options()
    measured.length = maxLength
    measured.lossRows = lossRows
    measured.steps = steps
    measured.decodedTokens = decode
    measured.measuresCache = !noCache
    measured.listsOperations = operations
    let samples = try data.map { try Sample.load($0) }

    let temporary = try await TemporaryModel.make(
      shape, besides: options.model, quantisation ?? "Q4_0", blocks: shapeBlocks)
    defer { temporary?.remove() }
    if let lengths { return try await memoryCurve(lengths, temporary?.path) }
    let trainsInside = !settings.method.keepsActivations
    let backbone = try await interruptible { [options] in
      let backbone = try await options.load(path: temporary?.path, trainsInside: trainsInside)
      try Cancellation.check()
      return backbone
    }
    if let texts { return try await generation(texts, backbone, settings) }
    let benchmark = SpeedBenchmark(backbone, settings, measured)
    let result = try await interruptible { try benchmark.run(samples) { Terminal.progress($0) } }
    Terminal.finishLine()
    if json {
      Terminal.output(try Terminal.json(result))
    } else {
      show(result)
    }
  }

  private func generation(_ texts: Int, _ backbone: Backbone, _ settings: TrainingConfiguration) async throws {
    var measured = GenerationBenchmark.Options()
    measured.texts = texts
    measured.ladders = ladders ?? 8
    measured.shared = shared ?? 1000
    measured.generated = max(2, decode)
    let benchmark = try GenerationBenchmark(backbone, settings, measured)
    let r = try await interruptible { try benchmark.run { Terminal.progress($0) } }
    Terminal.finishLine()
    if json { return Terminal.output(try Terminal.json(r)) }
    Terminal.output(
      String(
        format: "one text %.1f tok/s, the model alone %.1f; %d texts of %d ladders and the model %.1f (%.1f times one)",
        r.oneTokensPerSecond, r.modelTokensPerSecond, r.texts, r.ladders, r.allTokensPerSecond,
        r.allTokensPerSecond / r.oneTokensPerSecond))
    Terminal.output(
      String(
        format: "first token of a prompt that begins as another ladder's after %.3f s, cold %.3f (%.2f of it)",
        r.sharedSeconds, r.coldSeconds, r.sharedSeconds / r.coldSeconds))
    Terminal.output(memory(r.peakBytes, r.weightsBytes))
  }

  /// Runs `ladder plan --measure` once for each length.
  private func memoryCurve(_ text: String, _ temporary: String?) async throws {
    let lengths = try numberList(text, "--lengths").sorted()
    guard lengths.count >= 2, lengths.allSatisfy({ $0 >= 2 }) else {
      throw LadderError(.usage, "--lengths \(text): write two or more lengths, as in 512,1024,2048")
    }
    guard let model = try await ModelName.path(temporary ?? options.model) else {
      throw LadderError(.usage, "no --model: name a GGUF file, or a --shape")
    }
    let jobs = lengths.map { length in
      var job = MemoryJob(model: model, method: method.options, length: length)
      if let lossRows { job.lossShare = min(1, Double(lossRows) / Double(length)) }
      job.machine = options.machine
      return job
    }
    let points = try await interruptible {
      try jobs.map { job in
        Terminal.progress("measuring at \(job.length) tokens", always: true)
        let measured = try ProcessRunner(keeps: false).measure(job) { _ in }
        return MemoryCurve.Point(length: job.length, peakBytes: measured.peakBytes)
      }
    }
    let curve = MemoryCurve(points)
    if let plot {
      do {
        try curve.chart("Peak memory of training").svg().write(toFile: plot, atomically: true, encoding: .utf8)
      } catch { throw LadderError(.inputOutput, "cannot write \(plot)") }
    }
    if json { return Terminal.output(try Terminal.json(curve)) }
    for point in points {
      Terminal.output(String(format: "%8d tokens  %@", point.length, Terminal.bytes(point.peakBytes)))
    }
    Terminal.output(
      String(
        format: "line: %.2f GB + %.1f kB a token, worst point %.1f%% off; quadratic share at the end %.1f%%",
        curve.intercept / 1e9, curve.slope / 1e3,
        100 * curve.worstResidual, 100 * curve.quadraticShare))
  }

  private func show(_ r: SpeedBenchmark.Result) {
    func row(_ name: String, _ speed: Double?, of engine: Double? = nil) {
      guard let speed else { return }
      Terminal.output(
        String(
          format: "%@ %8.1f tok/s  %5.2f of the engine", name.padding(toLength: 34, withPad: " ", startingAt: 0), speed,
          speed / (engine ?? r.engineTokensPerSecond)))
    }
    for count in r.operations ?? [] {
      let columns = [(count.part.rawValue, 16), (count.device, 10), (String(count.times), 7)]
      Terminal.output(
        columns.map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }.joined() + count.operation)
    }
    row("engine, prefill alone", r.engineTokensPerSecond)
    row("engine, with taps", r.tappedTokensPerSecond)
    row("engine, with logits at loss rows", r.engineLogitsTokensPerSecond)
    row("training", r.trainTokensPerSecond)
    row("training from the cache", r.cachedTokensPerSecond)
    row("the same, --head cached", r.cachedHeadTokensPerSecond)
    if let engine = r.decodeBaseTokensPerSecond {
      for (name, speed) in [
        ("engine, decoding", engine), ("decoding", r.decodeModelTokensPerSecond),
        ("decoding with what is trained", r.decodeLadderTokensPerSecond),
      ] { row(name, speed, of: engine) }
    }
    Terminal.output(
      String(
        format: "training time: backbone %.0f%%, side network %.0f%%, head %.0f%%, optimiser %.0f%%",
        100 * r.backboneShare, 100 * r.sideShare,
        100 * r.headShare, 100 * r.optimiserShare))
    Terminal.output(
      "\(memory(r.peakBytes, r.weightsBytes)); \(Terminal.count(r.parameters)) trained parameters; \(r.device)")
  }

  private func memory(_ peak: Int, _ weights: Int) -> String {
    options.workers.isEmpty
      ? "peak memory \(Terminal.bytes(peak)), of which weights \(Terminal.bytes(weights))"
      : "peak memory here \(Terminal.bytes(peak)); weights \(Terminal.bytes(weights)), the blocks' at the workers"
  }
}

/// A random-weight model in a temporary file.
struct TemporaryModel {
  let path: String

  /// The model, unless there is a signal meanwhile: what was written of it is removed then.
  /// - Parameter model: the file that is named otherwise.
  static func make(
    _ shape: String?, besides model: String?, _ quantisation: String, headerOnly: Bool = false, blocks: Int? = nil
  ) async throws -> TemporaryModel? {
    guard let shape else { return nil }
    if model != nil { throw LadderError(.usage, "--model and --shape name two models; leave one out") }
    return try await interruptible { try TemporaryModel(shape, quantisation, headerOnly: headerOnly, blocks: blocks) }
  }

  /// - Parameter blocks: so many instead of the shape's own.
  private init(_ shape: String, _ quantisation: String, headerOnly: Bool = false, blocks: Int? = nil) throws {
    var shape = try ModelShape.named(shape)
    if let blocks {
      guard blocks >= 2 else { throw LadderError(.usage, "--shape-blocks must be 2 or more") }
      shape.blocks = blocks
    }
    guard let type = RandomModel.Quantisation(rawValue: quantisation.uppercased()) else {
      throw LadderError(.usage, "--quantisation \(quantisation): take Q4_0, Q8_0 or F16")
    }
    path =
      FileManager.default.temporaryDirectory.appendingPathComponent("ladder-\(shape.name)-\(UUID().uuidString).gguf")
      .path
    if !headerOnly { Terminal.note("writing a random model of the shape \(shape.name) to \(path)") }
    try RandomModel(shape, quantisation: type).write(path, headerOnly: headerOnly)
  }

  func remove() { try? FileManager.default.removeItem(atPath: path) }
}
