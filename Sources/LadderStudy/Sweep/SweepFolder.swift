import Foundation
import LadderCore
import LadderTrain

/// A sweep's folder: what it searches (`sweep.json`), what was tried (`trials.jsonl`), and the best run (`best`).
struct SweepFolder: Sendable {
  /// All that decides a sweep's trials, besides their time.
  struct Claim: Codable, Equatable {
    var settings: Sweep.Settings
    var model: String
    /// The samples to learn from and to judge by, as they are named, and their checksums.
    var samples: [String]
    /// Of the samples named, the part that is searched with: what can be kept in time.
    var share: Double
    /// Seconds before the first trial.
    var preparation: Double
    /// The longest budget that was searched to its end; nil before one was.
    var searched: Double?
  }

  let path: String
  var best: String { path + "/best" }
  private var trialsPath: String { path + "/trials.jsonl" }
  private var claimPath: String { path + "/sweep.json" }

  func run(_ number: Int) -> String { "\(path)/runs/\(number)" }

  /// A trial's run is not kept: its options make it again.
  func discard(_ number: Int) { try? FileManager.default.removeItem(atPath: run(number)) }

  /// What the folder holds of an earlier sweep.
  /// - Throws: `usage` where that searched something else; a longer budget goes on with what was tried.
  func earlier(_ settings: Sweep.Settings, model: String, samples: [String]) throws -> Claim? {
    guard FileManager.default.fileExists(atPath: claimPath) else { return nil }
    guard var claim = try? JSONDecoder().decode(Claim.self, from: try DurableFile.read(claimPath)) else {
      throw LadderError(.data, "\(claimPath) cannot be read; take another `out`")
    }
    claim.settings.budget = settings.budget
    guard claim.settings == settings, claim.model == model, claim.samples == samples else {
      throw LadderError(.usage, "\(path) holds a sweep with other options, samples or model; take another `out`")
    }
    return claim
  }

  func claim(_ claim: Claim) throws {
    try DurableFile.makeFolder(path)
    try DurableFile.write(claimPath, json: claim)
  }

  /// What was tried, in its order. A line that a killed process left by half is not counted.
  func trials() throws -> [Sweep.Trial] {
    guard FileManager.default.fileExists(atPath: trialsPath) else { return [] }
    var trials: [Sweep.Trial] = []
    for line in try DurableFile.read(trialsPath).split(separator: UInt8(ascii: "\n")) {
      guard let trial = try? JSONDecoder().decode(Sweep.Trial.self, from: Data(line)) else { break }
      trials.append(trial)
    }
    return trials
  }

  func write(_ trials: [Sweep.Trial]) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    let lines = try trials.map { try encoder.encode($0) + Data("\n".utf8) }
    try DurableFile.write(trialsPath, lines)
  }

  func write(_ name: String, _ text: String) throws { try DurableFile.write("\(path)/\(name)", [Data(text.utf8)]) }
}
