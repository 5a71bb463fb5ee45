import ArgumentParser
import Foundation
import Ladder
import LadderStudy

struct DataCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "data",
    abstract: "Show how a model reads samples: their tokens, what is learned of them, and how long they are.",
    discussion: """
      Learned tokens stand on green on a terminal, elsewhere between ⟦ and ⟧; control tokens are blue. Only the model's
      tokenizer and chat template are loaded. What training would refuse is refused here too.
      """)

  @Option(
    help: ArgumentHelp("The model, as for train.", valueName: "file.gguf"), completion: .file(extensions: ["gguf"]))
  var model: String
  @Option(
    help: ArgumentHelp("Samples; several times for several files, each with a share as for train.", valueName: "file"),
    completion: .file(extensions: ["jsonl", "json", "csv", "tsv"]))
  var data: [String]
  @Option(help: ArgumentHelp("Seed of the draw from a file with a share.", valueName: "S")) var seed: UInt64 = 0
  @Option(help: ArgumentHelp("Samples to show.", valueName: "N")) var show = 3
  @Option(help: ArgumentHelp("Tokens of the longest sample.", valueName: "T")) var maxLength = 1024
  @Option(help: ArgumentHelp("What becomes of a longer sample.", valueName: "what")) var overlong = Overlong.trim
  @Option(help: ArgumentHelp("Turns that the chat template rewrites later.", valueName: "what"))
  var earlierTurns = EarlierTurns.separate
  @OptionGroup var chat: ChatArguments
  @Option(
    help: ArgumentHelp("Write a page with all of it too.", valueName: "file.html"),
    completion: .file(extensions: ["html"]))
  var html: String?
  @Flag(help: "Print one JSON object: the counts of all, and the samples shown.") var json = false

  func run() async throws {
    guard (2...1 << 30).contains(maxLength), show >= 0 else {
      throw LadderError(.usage, "--max-length must be 2 to \(1 << 30), --show 0 or more")
    }
    guard !data.isEmpty else { throw LadderError(.usage, "no --data: name a file of samples") }
    let sources = try data.map { try DataSource($0) }
    let samples = try Sample.load(sources, seed: seed), name = data.joined(separator: ", ")
    let model = try await ModelName.path(model) as String
    let report = try await interruptible { [self] in
      let vocabulary = try ModelVocabulary(path: model)
      try chat.apply(to: vocabulary)
      if chat.chatTemplate != nil || chat.chatTemplateOptions != nil { _ = try vocabulary.chatTemplate() }
      let encoder = SampleEncoder(vocabulary, maxLength: maxLength, overlong: overlong, earlierTurns: earlierTurns)
      return try DataReport(samples, name: name, encoder: encoder, tokenizer: vocabulary, show: show) { done in
        Terminal.progress("\(done) of \(samples.count) samples")
      }
    }
    Terminal.finishLine()
    if json {
      Terminal.output(try Terminal.json(Summary(report)))
    } else {
      for view in report.views { print(view) }
      summarise(report)
    }
    if let html {
      do {
        try report.html(model: URL(fileURLWithPath: model).lastPathComponent, worded: FlagNames.flags(in:)).write(
          toFile: html, atomically: true, encoding: .utf8)
      } catch { throw LadderError(.inputOutput, "cannot write \(html)") }
      Terminal.note("the page is \(html)")
    }
  }

  private func print(_ view: DataReport.SampleView) {
    Terminal.output(
      "sample \(view.number)"
        + (view.notes.isEmpty ? "" : ": " + FlagNames.flags(in: view.notes.joined(separator: "; "))))
    for sequence in view.sequences {
      Terminal.output(Self.isInteractive ? coloured(sequence) : bracketed(sequence))
      Terminal.output("")
    }
  }

  private static let isInteractive = isatty(STDOUT_FILENO) != 0

  /// Each token on a shade of its own, so that one is told from the next.
  private func coloured(_ tokens: [DataReport.Token]) -> String {
    tokens.enumerated().map { place, token in
      let background =
        token.isLearned ? (place % 2 == 0 ? "48;5;22" : "48;5;28") : (place % 2 == 0 ? "48;5;236" : "48;5;239")
      let colour = token.isControl ? "38;5;117;1" : token.isLearned ? "38;5;231" : "38;5;250"
      // A line's colour ends with it.
      let lines = Self.visible(token.text).split(separator: "\n", omittingEmptySubsequences: false)
      return lines.map { "\u{1B}[\(background);\(colour)m\($0)\u{1B}[0m" }.joined(separator: "\n")
    }.joined()
  }

  private func bracketed(_ tokens: [DataReport.Token]) -> String {
    var result = "", isOpen = false
    for token in tokens {
      if token.isLearned != isOpen { result += token.isLearned ? "⟦" : "⟧" }
      isOpen = token.isLearned
      result += Self.visible(token.text)
    }
    return result + (isOpen ? "⟧" : "")
  }

  /// With what a terminal would act on as signs.
  private static func visible(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.flatMap { scalar -> [Unicode.Scalar] in
          switch scalar.value {
          case 0x0A: ["⏎", "\n"]
          case 0..<0x20, 0x7F: [Unicode.Scalar(scalar.value == 0x7F ? 0x2421 : 0x2400 + scalar.value) ?? "·"]
          default: [scalar]
          }
        }))
  }

  private func summarise(_ report: DataReport) {
    Terminal.output(
      "\(report.samples) samples, \(report.sequences) sequences, \(Terminal.count(report.tokens)) tokens, "
        + "\(Terminal.count(report.learned)) learned")
    Terminal.output(
      "lengths: half up to \(report.length(at: 0.5)), nine of ten up to \(report.length(at: 0.9)), "
        + "all up to \(report.length(at: 1))")
    let bins = report.histogram(), most = bins.map(\.sequences).max() ?? 1
    let width = String(bins.last?.range.upperBound ?? 0).count
    for bin in bins {
      let edges = [bin.range.lowerBound, bin.range.upperBound - 1].map {
        String(repeating: " ", count: max(0, width - String($0).count)) + String($0)
      }
      Terminal.output("  \(edges[0])–\(edges[1])  \(DataReport.bar(bin.sequences, of: most)) \(bin.sequences)")
    }
    for note in report.notes { Terminal.output(FlagNames.flags(in: note)) }
    for (number, notes) in report.changed.prefix(20) {
      Terminal.output("  sample \(number): \(FlagNames.flags(in: notes.joined(separator: "; ")))")
    }
  }
}

/// A sample's tokens.
private struct ShownSample: Encodable {
  struct Sequence: Encodable {
    let tokens: [Int32]
    /// Places of the tokens that are learned.
    let learned: [Int]
  }
  let sample: Int
  let sequences: [Sequence]
  let notes: [String]

  init(_ view: DataReport.SampleView) {
    sample = view.number
    sequences = view.sequences.map { tokens in
      Sequence(tokens: tokens.map(\.id), learned: tokens.indices.filter { tokens[$0].isLearned })
    }
    notes = view.notes.map { FlagNames.flags(in: $0) }
  }
}

/// The counts of all samples, and those that are shown.
private struct Summary: Encodable {
  let data: String
  let samples, sequences, tokens, learned, longest: Int
  let notes: [String]
  let shown: [ShownSample]

  init(_ report: DataReport) {
    data = report.name
    samples = report.samples
    sequences = report.sequences
    tokens = report.tokens
    learned = report.learned
    longest = report.length(at: 1)
    notes = report.notes.map { FlagNames.flags(in: $0) }
    shown = report.views.map { ShownSample($0) }
  }
}
