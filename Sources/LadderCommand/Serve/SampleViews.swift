import Foundation
import Ladder
import LadderStudy

/// A run's training samples as its model reads them, for the page.
actor SampleViews {
  private let language: ModelVocabulary
  /// The last one: a page asks for it again and again.
  private var last: (run: String, show: Int, began: Double?, json: Data)?

  init(_ language: ModelVocabulary) { self.language = language }

  private struct Report: Encodable {
    struct Token: Encodable {
      let id: Int32
      let text: String
      let learned, control: Bool

      init(_ token: DataReport.Token) {
        id = token.id
        text = token.text
        learned = token.isLearned
        control = token.isControl
      }
    }
    struct View: Encodable {
      let sample: Int
      let notes: [String]
      let sequences: [[Token]]
    }
    let data: String
    let samples, sequences, tokens, learned, longest: Int
    let notes: [String]
    let shown: [View]
  }

  /// As JSON.
  func view(_ run: RunDirectory, _ show: Int) throws -> Data {
    let manifest = try run.manifest()
    if let last, last.run == run.path, last.show == show, last.began == manifest.began { return last.json }
    let json = try read(manifest, show)
    last = (run.path, show, manifest.began, json)
    return json
  }

  private func read(_ manifest: RunDirectory.Manifest, _ show: Int) throws -> Data {
    let settings = manifest.configuration
    guard let name = manifest.identity?.name else {
      throw LadderError(.missing, "the run does not say what it was trained on")
    }
    let sources = try name.components(separatedBy: ", ").map { try DataSource($0) }
    let samples = try Sample.load(sources, seed: settings.seed)
    let own = try language.separate()
    own.use(settings.chat)
    let encoder = settings.encoder(own)
    let report = try DataReport(samples, name: name, encoder: encoder, tokenizer: own, show: show)
    return try JSONEncoder().encode(
      Report(
        data: name, samples: report.samples, sequences: report.sequences, tokens: report.tokens,
        learned: report.learned, longest: report.length(at: 1), notes: report.notes.map { FlagNames.flags(in: $0) },
        shown: report.views.map { view in
          Report.View(
            sample: view.number, notes: view.notes.map { FlagNames.flags(in: $0) },
            sequences: view.sequences.map { $0.map(Report.Token.init) })
        }))
  }
}
