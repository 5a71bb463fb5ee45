import ArgumentParser
import Foundation
import Ladder

struct Evaluate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval",
    abstract: "Measure a model, with or without a trained side network.",
    discussion: """
      loss        mean nats per token of the completions
      choice      share of samples whose completion is the likeliest of its "choices"
      matthews    Matthews correlation of those choices, where all samples have the same
      macro-f1    mean F1 of the choices, where all samples have the same
      preference  share of pairs whose "chosen" answer is likelier than the "rejected" one
      exact       share of samples whose generated text ends in the "answer": numbers as numbers, other texts without
                  regard to case, spaces and the punctuation around them
      auto        preference for pairs, choice where the samples have choices, exact where they have answers, else loss
      """)

  @OptionGroup var options: ModelOptions
  @Option(help: ArgumentHelp("A run's folder.", valueName: "run"), completion: .directory) var adapter: String?
  @Option(
    help: ArgumentHelp(
      "Samples, in the forms and with the shares that train takes; several times for several files.",
      valueName: "file.jsonl"),
    completion: .file(extensions: ["jsonl", "json", "csv", "tsv"]))
  var data: [String]
  @Option(help: ArgumentHelp("Seed of the draw from a file with a share.", valueName: "S")) var seed: UInt64 = 0
  @Option(help: ArgumentHelp("What is measured.", valueName: "name")) var metric = Metric.auto
  @Option(help: ArgumentHelp("Tokens of the longest sample.", valueName: "T")) var maxLength = 2048
  @Option(help: ArgumentHelp("What becomes of a longer sample.", valueName: "what")) var overlong = Overlong.trim
  @OptionGroup var chat: ChatArguments
  @Option(help: ArgumentHelp("Tokens that exact match generates at most.", valueName: "N")) var maxTokens = 256
  @Option(help: ArgumentHelp("Take only the first N samples.", valueName: "N")) var limit: Int?
  @Option(
    help: ArgumentHelp(
      "Folder that keeps the model's activations: later evaluations of these samples never run the model.",
      valueName: "folder"),
    completion: .directory)
  var cache: String?
  @Option(help: ArgumentHelp("Texts that exact match generates at a time (default 8).", valueName: "N")) var parallel =
    8
  @Option(
    help: ArgumentHelp(
      "Write what was predicted for each sample: {\"text\", \"tokens\", \"right\"} a line, with \"left_out\" where it was not judged.",
      valueName: "file.jsonl"),
    completion: .file(extensions: ["jsonl"]))
  var predictions: String?
  @Flag(help: "Print one JSON object.") var json = false

  func run() async throws {
    var settings = EvaluationOptions()
    let most = 1 << 30
    guard (2...most).contains(maxLength), (1...1 << 20).contains(maxTokens), (limit ?? 1) >= 1,
      (1...most).contains(parallel)
    else {
      throw LadderError(
        .usage,
        "--max-length must be 2 to \(most), --max-tokens 1 to \(1 << 20), --parallel 1 to \(most), --limit 1 or more")
    }
    settings.metric = metric
    settings.overlong = overlong
    settings.maxLength = maxLength
    settings.maxTokens = maxTokens
    settings.parallelTexts = parallel
    settings.cache = cache.map { CacheOptions(directory: $0) }
    guard !data.isEmpty else { throw LadderError(.usage, "no --data: name a file of samples") }
    let sources = try data.map { try DataSource($0) }
    let samples = Array(try Sample.load(sources, seed: seed).prefix(limit ?? .max))
    let name = sources.map { URL(fileURLWithPath: $0.path).deletingPathExtension().lastPathComponent }
      .joined(separator: "+")
    let adapter = adapter.map { RunDirectory($0) }
    if let adapter, let preference = try adapter.manifest().configuration.preference {
      settings.preference = preference
    }
    let backbone = try await options.load(cache: cache)
    for note in [try adapter?.note(), try settings.cache?.note(on: backbone)] {
      if let note { Terminal.note(note) }
    }
    let final = settings, chat = chat
    let result = try await interruptible {
      let model = try LadderModel(backbone, adapter: adapter)
      try chat.apply(to: model.language, over: model.chat)
      return try model.evaluate(samples, name: name, options: final) { done, total in
        Terminal.progress("evaluated \(done) of \(total)")
      }
    }
    Terminal.finishLine()
    if let predictions, result.predictions.isEmpty {
      Terminal.note("\(predictions) is not written: the metric \(result.metric.rawValue) predicts nothing")
    } else if let predictions {
      let lines = try result.predictions.map { try Terminal.json($0) + "\n" }.joined()
      do { try lines.write(toFile: predictions, atomically: true, encoding: .utf8) } catch {
        throw LadderError(.inputOutput, "cannot write \(predictions)")
      }
    }
    if !result.notes.isEmpty {
      Terminal.note("\(data.joined(separator: ", ")): \(result.notes.joined(separator: "; "))")
    }
    if let unjudged = result.unjudgedText { Terminal.note(unjudged) }
    if json {
      Terminal.output(try Terminal.json(result))
    } else {
      var value = result.metric == .loss ? "" : String(format: "  %@ %.4f", result.metric.rawValue, result.value)
      let beside = [
        ("accuracy", result.metric == .exact || result.metric == .choice ? nil : result.accuracy),
        ("matthews", result.metric == .matthews ? nil : result.matthews),
        ("macro-f1", result.metric == .macroF1 ? nil : result.macroF1),
      ]
      for case (let name, let number?) in beside { value += String(format: "  %@ %.4f", name, number) }
      var gain = ""
      if let margin = result.margin, let share = result.rewardAccuracy {
        gain = String(format: "  margin %.3f nats, above 0 in %.1f%%", margin, 100 * share)
      }
      Terminal.output(
        String(
          format: "%@:%@  loss %.4f  over %d samples, %d tok/s", result.task, value, result.loss, result.examples,
          Int(result.tokensPerSecond)) + gain)
    }
  }
}
