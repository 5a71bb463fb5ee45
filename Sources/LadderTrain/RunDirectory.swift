import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderMethods

/// A run's folder:
///
///     ladder.json          configuration, and the backbone's fingerprint
///     ladder.safetensors   the weights to use: the best validated, or the last; QLoRA writes adapter.gguf and PEFT's
///                          files with them
///     metrics.jsonl        one line a step
///     checkpoints/step-N/  what a resumed run continues from
///     lock                 held by the process that trains
///
/// Every file is written whole or not at all.
public struct RunDirectory: Sendable {
  /// The contents of `ladder.json`.
  package struct Manifest: Codable, Sendable {
    static let currentFormat = 2
    package var format = Self.currentFormat
    /// The method's name.
    package var method: String
    package var backbone: BackboneReference
    package var configuration: TrainingConfiguration
    /// Trainable numbers.
    package var parameters: Int
    /// Of a side network: its width, its layers (as many as rungs for each climb), and its rungs.
    package var width: Int?
    package var layers: Int?
    package var rungs: [Int]?
    /// The step whose weights `ladder.safetensors` holds, and its validation loss where there is one.
    package var step: Int
    package var validationLoss: Float?
    package var finished: Bool
    /// What the run was made from; nil in runs of the first format.
    package var identity: RunIdentity? = nil
    /// With a cached head: whether every sample had its references when the run began, so that its first epoch uses
    /// them too.
    package var beginsFromReferences: Bool? = nil
    /// When the run began, in seconds since 1970: the date that its chat template writes, where it writes one. Nil in
    /// earlier runs.
    package var began: Double? = nil
  }

  package struct BackboneReference: Codable, Sendable, Equatable {
    package var name: String
    package var fingerprint: String
    package var architecture: String
    package var blocks: Int
    package var width: Int
    /// What the fingerprint is made of; nil where it is of the earlier kind.
    package var parts: ModelFingerprint? = nil
  }

  /// The folder.
  public let path: String

  /// - Parameter path: made by the training that writes it.
  public init(_ path: String) { self.path = path }

  static let manifestName = "ladder.json"
  package var manifestPath: String { "\(path)/\(Self.manifestName)" }
  static let weightsName = "ladder.safetensors"
  package var weightsPath: String { "\(path)/\(Self.weightsName)" }
  package var metricsPath: String { path + "/metrics.jsonl" }
  var checkpointsPath: String { path + "/checkpoints" }

  /// - Throws: `missing` where this is no run.
  package func manifest() throws -> Manifest {
    guard FileManager.default.fileExists(atPath: manifestPath) else {
      throw LadderError(.missing, "\(path) is not a run: it has no ladder.json")
    }
    do {
      return try JSONDecoder().decode(Manifest.self, from: try Self.current(try DurableFile.read(manifestPath)))
    } catch is DecodingError {
      throw LadderError(
        .data, "\(manifestPath) cannot be read as a run's settings; it was written by another version or by hand")
    }
  }

  /// A manifest's JSON in the present format.
  private static func current(_ data: Data) throws -> Data {
    guard var manifest = try? JSONSerialization.jsonObject(with: data) as? [String: Any],
      (manifest["format"] as? Int ?? 1) < 2,
      var configuration = manifest["configuration"] as? [String: Any], let side = configuration["side"]
    else { return data }
    // Format 1 had a side network's settings beside the adapter's, where there were any.
    configuration["method"] = configuration["lora"].map { ["lora": $0] } ?? ["ladder": side]
    manifest["configuration"] = configuration
    return try JSONSerialization.data(withJSONObject: manifest)
  }

  /// The steps so far, as `metrics.jsonl` holds them.
  /// - Throws: `data` for a line that is none of Ladder's; `missing`.
  public func metrics() throws(LadderError) -> [TrainingStep] {
    try LadderError.unify {
      try metricsLines().split(separator: UInt8(ascii: "\n")).enumerated().map { number, line in
        do { return try JSONDecoder().decode(TrainingStep.self, from: Data(line)) } catch {
          throw LadderError(.data, "\(metricsPath):\(number + 1) is no step of a training")
        }
      }
    }
  }

  /// The whole lines of `metrics.jsonl`: a last one that is being written, or was cut by a full disk, is left out.
  func metricsLines() throws -> Data {
    let contents = try DurableFile.read(metricsPath)
    return contents.lastIndex(of: UInt8(ascii: "\n")).map { contents[...$0] } ?? Data()
  }

  /// Completes or removes what a process that was killed left here, and nothing that is not a run's. Only where the
  /// folder is locked.
  func sweep() throws {
    for file in [manifestPath, weightsPath, metricsPath] { DurableFile.sweep(file) }
    guard FileManager.default.fileExists(atPath: manifestPath) else { return }
    try FileSet.settle(path)
    for name in (try? FileManager.default.contentsOfDirectory(atPath: checkpointsPath)) ?? []
    where name.hasPrefix("step-") && name.hasSuffix(".tmp") {
      // A checkpoint that is whole is used under this name too.
      let left = "\(checkpointsPath)/\(name)"
      if !FileManager.default.fileExists(atPath: left + "/state.json") {
        try? FileManager.default.removeItem(atPath: left)
      }
    }
  }

  package func write(_ manifest: Manifest) throws {
    try DurableFile.write(manifestPath, json: manifest)
  }

  /// What a user should know of the run.
  package func note() throws -> String? { ModelFingerprint.note(on: try manifest().backbone.fingerprint, in: path) }

  /// Loads what the run trained onto its backbone.
  /// - Throws: `data` with both fingerprints, and with what differs, where the backbone is another one.
  package func predictor(_ backbone: Backbone) throws -> any Predictor {
    let manifest = try manifest()
    let weights = try weights(of: manifest, on: backbone)
    return try manifest.configuration.method.tuning.predictor(backbone, weights: weights, folder: path)
  }

  private func weights(of manifest: Manifest, on backbone: Backbone) throws -> String {
    try manifest.backbone.require(backbone, run: path)
    let weights = FileSet.current(Self.weightsName, in: path)
    guard FileManager.default.fileExists(atPath: weights) else {
      throw LadderError(.missing, "\(path) holds no weights yet; let its training run on with `resume`")
    }
    return weights
  }

  /// The weights, for a run of other settings to start from.
  /// - Throws: `data` where the backbone is another one; `usage` where the weights would mean something else there.
  func weights(for configuration: TrainingConfiguration, on backbone: Backbone) throws -> String {
    let manifest = try manifest(), weights = try weights(of: manifest, on: backbone)
    var differences = configuration.meaningDifferences(from: manifest.configuration)
    let rungs = try configuration.method.tuning.outline(on: backbone.outline).rungs
    if let other = manifest.rungs, other != rungs { differences.append("rungs") }
    guard differences.isEmpty else {
      throw LadderError(
        .usage,
        "`warmStart` takes weights as \(path) trained them, and these differ: "
          + differences.map { "`\($0)`" }.joined(separator: ", "))
    }
    return weights
  }
}
