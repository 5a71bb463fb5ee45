import Foundation
import LadderCore

/// A file of samples and how much of it is taken: `a.jsonl`, or `a.jsonl:0.3`.
public struct DataSource: Sendable, Equatable, CustomStringConvertible {
  /// The file.
  public var path: String
  /// Of the file's samples: 1 takes each once, 0.3 a drawn three tenths, 2.5 each twice and a drawn half once more.
  public var share: Double

  /// The whole file, or a share of it, above 0 and at most 1000.
  public init(path: String, share: Double = 1) {
    self.path = path
    self.share = share
  }

  /// Reads `path` or `path:share`; what is a file as it stands is a path.
  /// - Throws: `usage` for a share that is none.
  public init(_ text: String) throws(LadderError) {
    self.init(path: text)
    guard !FileManager.default.fileExists(atPath: text), let colon = text.lastIndex(of: ":"),
      let share = Double(text[text.index(after: colon)...]), colon > text.startIndex
    else { return }
    guard share > 0, share <= 1000 else {
      throw LadderError(.usage, "\(text): the share of a file is above 0 and at most 1000, as in a.jsonl:0.3")
    }
    self.init(path: String(text[..<colon]), share: share)
  }

  public var description: String { share == 1 ? path : "\(path):\(share.optionText)" }

  /// Which of `count` samples are taken, in the file's order for each round.
  func indices(of count: Int, seed: UInt64, file: Int) -> [Int] {
    let rounds = Int(share), drawn = Int((Double(count) * (share - Double(rounds))).rounded())
    var random = SeededRandom(seed: seed, 6, file)
    let all = Array(0..<count)
    let part = drawn > 0 ? all.shuffled(using: &random).prefix(drawn).sorted() : []
    let result = (0..<rounds).flatMap { _ in all } + part
    return result.isEmpty ? Array(all.shuffled(using: &random).prefix(1)) : result
  }
}

extension Sample {
  /// Reads several files, of each its share.
  /// - Parameters:
  ///   - seed: decides which samples of a share are drawn.
  ///   - report: called with each file, the samples that it holds and those that are taken.
  /// - Throws: `missing`; `data` with file and line for the first record that is no sample.
  public static func load(
    _ sources: [DataSource], seed: UInt64 = 0, report: (DataSource, Int, Int) -> Void = { _, _, _ in }
  ) throws(LadderError) -> [Sample] {
    var result: [Sample] = []
    for (index, source) in sources.enumerated() {
      let samples = try load(source.path), taken = source.indices(of: samples.count, seed: seed, file: index)
      report(source, samples.count, taken.count)
      result += source.share == 1 ? samples : taken.map { samples[$0] }
    }
    return result
  }
}
