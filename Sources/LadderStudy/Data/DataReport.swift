import LadderCore
import LadderData

/// How a model reads samples: their tokens, which of them are learned, their lengths, and what does not go through as it
/// was written.
public struct DataReport: Sendable {
  /// A token of a sample.
  public struct Token: Sendable, Equatable {
    public var id: Int32
    /// The token's text; a part of a character stands as U+FFFD.
    public var text: String
    public var isLearned: Bool
    /// Whether it is one that templates alone write.
    public var isControl: Bool
  }

  /// One sample as it is learned.
  public struct SampleView: Sendable {
    /// From 1.
    public var number: Int
    /// Its sequences, the preferred answer of a pair first; none where it is dropped.
    public var sequences: [[Token]]
    /// What did not go through as it was written.
    public var notes: [String]
  }

  /// The data file.
  public let name: String
  /// Samples in the file.
  public private(set) var samples = 0
  /// Sequences that are learned.
  public private(set) var sequences = 0
  /// Tokens that go through the model.
  public private(set) var tokens = 0
  /// Those that are learned.
  public private(set) var learned = 0
  /// Tokens of each sequence, ascending.
  public private(set) var lengths: [Int] = []
  /// What did not go through as it was written, in all.
  public private(set) var notes: [String] = []
  /// The samples of which something was dropped, cut or left out, at most a hundred.
  public private(set) var changed: [(number: Int, notes: [String])] = []
  /// The first samples.
  public private(set) var views: [SampleView] = []

  /// - Parameters:
  ///   - show: how many samples are kept as tokens.
  /// - Throws: `data` with file and line, as training would.
  package init(
    _ samples: [Sample], name: String, encoder: SampleEncoder, tokenizer: any Tokenizing, show: Int,
    progress: (Int) -> Void = { _ in }
  ) throws {
    self.name = name
    self.samples = samples.count
    var total = SampleEncoder.Count()
    for (index, sample) in samples.enumerated() {
      var count = SampleEncoder.Count()
      let encoded = try sample.placing { try encoder.sequences(sample, &count) }
      if encoded.isEmpty, count.dropped == 0 { count.idle += 1 }
      total += count
      sequences += encoded.count
      tokens += encoded.reduce(0) { $0 + $1.tokens.count }
      learned += encoded.reduce(0) { $0 + $1.targets.count }
      lengths += encoded.map(\.tokens.count)
      if !count.notes.isEmpty, changed.count < 100 { changed.append((index + 1, count.notes)) }
      if index < show {
        let tokens = encoded.map { Self.tokens($0, tokenizer) }
        views.append(SampleView(number: index + 1, sequences: tokens, notes: count.notes))
      }
      if index % 256 == 255 { progress(index + 1) }
    }
    if sequences == 0 {
      throw LadderError(
        .data, "\(name): nothing is learned of its \(samples.count) samples: " + total.notes.joined(separator: "; "))
    }
    lengths.sort()
    notes = total.notes + [samples.unreadKeys].compactMap(\.self)
  }

  /// The length that a share of the sequences does not pass.
  public func length(at share: Double) -> Int {
    lengths.isEmpty ? 0 : lengths[min(lengths.count - 1, Int(share * Double(lengths.count)))]
  }

  /// Sequences by length, in at most `count` bins of one width.
  public func histogram(bins count: Int = 12) -> [(range: Range<Int>, sequences: Int)] {
    guard let longest = lengths.last else { return [] }
    // Widths that are easily read.
    let width = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10000, 50000, 100_000, 1_000_000]
    let step = width.first { longest / $0 < count } ?? longest
    return (0...(longest / step)).map { bin in
      let range = (bin * step)..<((bin + 1) * step)
      return (range, lengths.count { range.contains($0) })
    }
  }

  private static func tokens(_ sample: EncodedSample, _ tokenizer: any Tokenizing) -> [Token] {
    let rows = Set(sample.lossRows), all = sample.tokens + sample.targets.suffix(1)
    return all.enumerated().map { place, token in
      Token(
        id: token, text: String(decoding: tokenizer.bytes(of: token), as: UTF8.self),
        isLearned: rows.contains(place - 1),
        isControl: tokenizer.isControl(token))
    }
  }
}
