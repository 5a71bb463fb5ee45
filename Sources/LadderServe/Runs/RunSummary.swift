import Foundation
import LadderCore
import LadderTrain

/// How far a run has come.
struct RunSummary: Encodable {
  let name: String
  var method, objective: String?
  /// `training`, `finished` or `stopped`.
  var state = "stopped"
  let served: Bool
  var step: Int?
  var totalSteps: Int?
  var epoch: Double?
  var loss: Float?
  /// The best so far.
  var validationLoss: Float?
  var tokensPerSecond: Double?
  var peakBytes: Int?
  var seconds, secondsLeft: Double?
  /// In seconds since 1970.
  var updated: Double
  var began: Double?

  enum CodingKeys: String, CodingKey {
    case name, method, objective, state, served, step, epoch, loss, seconds, updated, began
    case totalSteps = "total_steps"
    case validationLoss = "validation_loss"
    case tokensPerSecond = "tokens_per_second"
    case peakBytes = "peak_bytes"
    case secondsLeft = "seconds_left"
  }

  init(_ run: RunDirectory, name: String, served: Bool) {
    self.name = name
    self.served = served
    updated = Self.modified(run.metricsPath) ?? Self.modified(run.manifestPath) ?? 0
    let manifest = try? run.manifest()
    if let manifest {
      method = manifest.method
      objective = manifest.configuration.objective?.rawValue
      began = manifest.began
      validationLoss = manifest.validationLoss
    }
    if let last = Self.lastStep(run.metricsPath) {
      step = last.step
      totalSteps = last.totalSteps
      epoch = last.epoch
      loss = last.loss
      tokensPerSecond = last.tokensPerSecond
      peakBytes = last.peakBytes
      seconds = last.seconds
      secondsLeft = last.secondsLeft
    }
    if manifest?.finished ?? false {
      state = "finished"
    } else if Date().timeIntervalSince1970 - updated < Self.patience(seconds, step) {
      state = "training"
    }
  }

  /// A run that has written nothing for so long trains no more.
  private static func patience(_ seconds: Double?, _ step: Int?) -> Double {
    guard let seconds, let step, step > 0 else { return 120 }
    return max(60, 5 * seconds / Double(step))
  }

  private static func modified(_ path: String) -> Double? {
    let attributes = try? FileManager.default.attributesOfItem(atPath: path)
    return (attributes?[.modificationDate] as? Date)?.timeIntervalSince1970
  }

  /// The last whole line, without the file before it.
  private static func lastStep(_ path: String) -> TrainingStep? {
    guard let tail = FileTail.bytes(path, from: { $0 > 8192 ? $0 - 8192 : 0 }),
      let stop = tail.lastIndex(of: UInt8(ascii: "\n"))
    else { return nil }
    let line = tail[..<stop].split(separator: UInt8(ascii: "\n")).last
    return line.flatMap { try? JSONDecoder().decode(TrainingStep.self, from: Data($0)) }
  }
}
