import ArgumentParser
import Foundation
import Ladder

struct Export: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a folder of a run to publish: weights, model card, settings and figures.",
    discussion: """
        ladder export runs/first --out first
        ladder export runs/qlora --out qlora --model model.gguf --merge

      The folder is a run too: --adapter takes it. A QLoRA run's holds it as safetensors, as adapter.gguf for llama.cpp
      and in PEFT's layout; --merge adds the model with the run in its weights, which every program on llama.cpp runs.
      There W + s·B·A is made in F32 and rounded to each matrix's own type, or to --type; all else is copied. Paths of
      this machine are left out.
      """)

  @Argument(help: ArgumentHelp("A run's folder.", valueName: "run"), completion: .directory) var folder: String
  @Option(help: ArgumentHelp("The folder, made here.", valueName: "folder"), completion: .directory) var out: String
  @OptionGroup var options: ModelOptions
  @Flag(help: "Add the run to the model's weights, in a GGUF (runs of --method qlora; needs --model).") var merge =
    false
  @Option(
    help: ArgumentHelp(
      "With --merge: what the changed matrices become (default: what each is; a small change is nearer in Q8_0 or F16 "
        + "than in 4 bits).", valueName: "type"))
  var type: String?
  @Option(
    help: ArgumentHelp(
      "With --model: samples that the run never saw; their loss without and with the run goes into the card, and with "
        + "--merge the merged model's is told.", valueName: "file"),
    completion: .file(extensions: ["jsonl", "json", "csv", "tsv"]))
  var data: String?
  @Option(
    help: ArgumentHelp("The card's title, and the merged file's name (default: the folder's).", valueName: "name"))
  var name: String?
  @Option(help: ArgumentHelp("The base model's name at the hub, for the card and for PEFT.", valueName: "owner/name"))
  var baseModel: String?
  @Option(help: ArgumentHelp("The licence, as the hub names it: apache-2.0.", valueName: "name")) var license: String?
  @Flag(help: "Print one JSON object.") var json = false

  func run() async throws {
    guard merge || type == nil else { throw LadderError(.usage, "--type goes with --merge") }
    guard data == nil || options.model != nil else {
      throw LadderError(.usage, "--data needs --model: the GGUF that the run belongs to")
    }
    if merge, options.model == nil {
      throw LadderError(.usage, "--merge needs --model: the GGUF that the run belongs to")
    }
    let samples = try data.map { Array(try Sample.load($0).prefix(64)) }
    let model = try await ModelName.path(options.model)
    var export = RunExport()
    export.name = name
    export.baseModel = baseModel
    export.license = license
    export.merges = merge
    export.type = type
    let run = RunDirectory(folder), out = out
    try export.check(run, model: model, to: out)
    var report = Report(path: out)
    if let samples, let data {
      let alone = try await judged(samples, model, nil), tuned = try await judged(samples, model, run)
      report.adapterLoss = tuned.loss
      let name = URL(fileURLWithPath: data).lastPathComponent
      export.figures.append(
        "loss \(tuned.of) \(tuned.samples) samples of \(name): "
          + String(format: "%.4f with this, %.4f the model alone", tuned.loss, alone.loss))
      if let right = tuned.right, let before = alone.right {
        export.figures.append(String(format: "right choices: %.3f with this, %.3f the model alone", right, before))
      }
    }
    let final = export
    let threads = options.threads ?? ProcessInfo.processInfo.activeProcessorCount
    let result = try await interruptible {
      try final.write(run, model: model, to: out, threads: threads) { done, total in
        Terminal.progress("merged \(Terminal.bytes(done)) of \(Terminal.bytes(total))")
      }
    }
    Terminal.finishLine()
    for note in result.notes { Terminal.note(note) }
    report.merged = result.merged
    if let samples, let merged = result.merged {
      let own = try await judged(samples, merged, nil)
      report.mergedLoss = own.loss
      let words = "loss \(own.of) \(own.samples) samples: %.4f with the adapter applied, %.4f merged"
      Terminal.note(String(format: words, report.adapterLoss ?? 0, own.loss))
    }
    report.path = result.path
    Terminal.output(json ? try Terminal.json(report) : result.merged ?? result.path)
  }

  /// What a card says of held-out samples: of those with choices the loss among them, and the share that is right.
  private struct Judged {
    var loss: Double
    var right: Double?
    var samples: Int
    var of: String { right == nil ? "on" : "among the choices of" }
  }

  private func judged(_ samples: [Sample], _ model: String?, _ run: RunDirectory?) async throws -> Judged {
    let backbone = try await options.load(path: model)
    return try await interruptible {
      var settings = EvaluationOptions()
      settings.metric = samples.allSatisfy { !$0.choices.isEmpty } ? .choice : .loss
      let result = try LadderModel(backbone, adapter: run).evaluate(samples, options: settings)
      return Judged(loss: result.choiceLoss ?? result.loss, right: result.accuracy, samples: result.examples)
    }
  }

  private struct Report: Encodable {
    var path: String
    var merged: String?
    var adapterLoss: Double?
    var mergedLoss: Double?

    enum CodingKeys: String, CodingKey {
      case path, merged
      case adapterLoss = "adapter_loss"
      case mergedLoss = "merged_loss"
    }
  }
}
