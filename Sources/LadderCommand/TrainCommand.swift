import ArgumentParser
import Foundation
import Ladder
import LadderMPI
import LadderStudy

struct Train: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train a side network on a frozen model, or low-rank matrices inside it.",
    discussion: """
      Every option can stand in a YAML file given by --config, by its long name (`learning-rate: 5e-4`); the
      command line wins.

      The run's folder holds ladder.json, ladder.safetensors (the best state by --valid, else the last), metrics.jsonl
      and the last checkpoint. With --method qlora it also holds the adapter for llama.cpp (adapter.gguf) and for PEFT
      (adapter_model.safetensors, adapter_config.json). Stop with Ctrl-C and go on with --resume: the weights end bit
      for bit as if never stopped.

      Under mpirun (Open MPI, MPICH and its kin) the processes share each batch; the first writes the run's folder.
      """)

  @OptionGroup var options: ModelOptions

  @Option(
    help: ArgumentHelp("YAML file of options.", valueName: "file.yaml"), completion: .file(extensions: ["yaml", "yml"]))
  var config: String?
  @Option(
    help: ArgumentHelp(
      "Training samples: JSON Lines, a JSON array, CSV or TSV. Several times for several files; a.jsonl:0.3 draws "
        + "three tenths of a file's samples by --seed, a.jsonl:2 takes them twice.",
      valueName: "file[:share]"), completion: .file())
  var data: [String] = []
  @Option(
    help: ArgumentHelp(
      "Samples to choose the best state by; as --data, also several times.", valueName: "file[:share]"),
    completion: .file()) var valid: [String] = []
  @Option(help: ArgumentHelp("Folder for the run.", valueName: "folder"), completion: .directory) var out: String?
  @Flag(help: "Go on with the run in --out from its last checkpoint.") var resume = false

  @Option(
    help: ArgumentHelp(
      "Folder that keeps the model's activations: later epochs and runs read them and never run the model.",
      valueName: "folder"),
    completion: .directory)
  var cache: String?
  @Option(
    help: ArgumentHelp(
      "bf16, or q8_0: half the size, rounded (default: what the folder has for this model, else bf16).",
      valueName: "kind"))
  var cacheFormat: CacheFormat?
  @Option(help: ArgumentHelp("Size at which the cache stores no more, e.g. 20GB.", valueName: "size"))
  var cacheLimit: ByteSize?

  @Flag(help: "Show the run's curves on a page while it trains, as ladder serve does.") var page = false
  @Option(help: ArgumentHelp("Where that page is; 0 takes a free port.", valueName: "N"))
  var pagePort: Int?

  @OptionGroup var training: TrainingArguments

  /// What the command line gives.
  var given: TrainingFile {
    var given = TrainingFile(
      options, training, data: data, valid: valid, out: out, cache: cache, format: cacheFormat, limit: cacheLimit)
    given.resume = resume ? true : nil
    given.page = page ? true : nil
    given.pagePort = pagePort
    return given
  }

  mutating func run() async throws {
    // All ask for it before anything can fail on one.
    let group = try MPIGroup.joined(), ranks = Ranks(group), threads = try group?.threads()
    Terminal.isQuiet = !ranks.isFirst
    do {
      let job = try await ranks.together { try await prepare(group, threads: threads) }
      try await Self.run(job, ranks)
      group?.leave()
    } catch {
      guard let group else { throw error }
      // The first process says it, before the others end: their launcher ends it then.
      let error = LadderError(any: error)
      if ranks.isFirst || !ranks.isOver {
        Terminal.isQuiet = false
        Terminal.finishLine()
        Terminal.error("ladder: \(error.message)")
      }
      group.leave()
      throw ExitCode(error.kind.rawValue)
    }
  }

  /// What is trained on what, ready to begin.
  private struct Job: Sendable {
    var trainer: Trainer
    var samples: [Sample]
    var name: String
    var validation: [Sample]?
    var validationName: String?
    var run: RunDirectory
    var resumes: Bool
    var page: RunPage?
  }

  private mutating func prepare(_ group: MPIGroup?, threads: Int?) async throws -> Job {
    let asked = try config.map { given.over(try ConfigurationFile.read(TrainingFile.self, path: $0)) } ?? given
    let settings = try asked.run.training.configuration()
    let sources = try asked.sources(), held = try asked.valid?.texts.map { try DataSource($0) }
    let shows = asked.page ?? false
    if asked.pagePort != nil, !shows { throw LadderError(.usage, "--page-port goes with --page") }
    guard let out = asked.out else { throw LadderError(.usage, "no --out: name a folder for the run") }
    let samples = try Self.load(sources, settings), validation = try held.map { try Self.load($0, settings) }
    let cacheOptions = try asked.cacheOptions()
    options.model = asked.model
    options.verbose = asked.verbose ?? false
    options.machine = asked.run.machine
    if let group {
      if !options.workers.isEmpty {
        throw LadderError(.usage, "a worker serves one process: --workers is not for several")
      }
      options.threads = options.threads ?? threads
      options.device = options.device ?? MPIEnvironment.device
      Self.tell(of: group, settings, threads: options.threads)
    }
    let backbone = try await options.load(
      cache: cacheOptions?.directory, trainsInside: !settings.method.keepsActivations)
    Terminal.note(
      "\(backbone.file.name ?? "model"): \(backbone.blocks) blocks of width \(backbone.width), "
        + "\(Terminal.bytes(backbone.weightsBytes)) on \(backbone.deviceName)"
    )
    let run = RunDirectory(out)
    return Job(
      trainer: Trainer(backbone, settings, cache: cacheOptions), samples: samples, name: Self.name(sources),
      validation: validation, validationName: held.map(Self.name), run: run, resumes: asked.resume ?? false,
      page: shows && group?.rank ?? 0 == 0
        ? try await RunPage(run, port: asked.pagePort ?? 8080, language: backbone.language) : nil)
  }

  private static func tell(of group: MPIGroup, _ settings: TrainingConfiguration, threads: Int?) {
    let each = threads.map { ", \($0) thread\($0 == 1 ? "" : "s") each" } ?? ""
    Terminal.note("\(group.count) processes over \(group.version.prefix { $0 != "," })\(each)")
    if settings.batchSize < group.count {
      Terminal.note("a batch of \(settings.batchSize) leaves \(group.count - settings.batchSize) of them without work")
    }
  }

  private static func run(_ job: Job, _ ranks: Ranks) async throws {
    defer { job.page?.close() }
    let last = try await interruptible(saves: true) {
      try job.trainer.train(
        job.samples, name: job.name, validation: job.validation, validationName: job.validationName, into: job.run,
        resume: job.resumes, among: ranks, report: Self.show)
    }
    Terminal.finishLine()
    if let last {
      Terminal.note(
        "done: \(last.step) steps, \(Terminal.count(last.tokens)) tokens at \(Int(last.tokensPerSecond)) "
          + "tok/s, peak \(Terminal.bytes(last.peakBytes))"
      )
    }
    Terminal.output(job.run.path)
  }

  static func name(_ sources: [DataSource]) -> String {
    sources.map(\.description).joined(separator: ", ")
  }

  /// Several files, or a share of one, are told as they are read.
  static func load(_ sources: [DataSource], _ settings: TrainingConfiguration) throws -> [Sample] {
    try Sample.load(sources, seed: settings.seed) { source, held, taken in
      guard sources.count > 1 || source.share != 1 else { return }
      Terminal.note("\(source.path): \(taken) of \(held) samples")
    }
  }

  /// One event as progress.
  static func show(_ event: TrainingEvent) {
    switch event {
    case .stage(let what): Terminal.progress(what, always: true)
    case .samples(let report):
      Terminal.note(
        "\(report.name): \(report.kept) samples"
          + (report.notes.isEmpty ? "" : " (" + report.notes.joined(separator: "; ") + ")"))
    case .note(let text): Terminal.note(text)
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
}
