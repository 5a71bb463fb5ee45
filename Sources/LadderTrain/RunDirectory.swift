import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderMethods

/// A run's folder:
///
///     ladder.json          configuration, and the backbone's fingerprint
///     ladder.safetensors   the weights to use: the best validated, or the last; with QLoRA adapter.gguf and PEFT's files hold them too
///     metrics.jsonl        one line a step
///     checkpoints/step-N/  what --resume continues from
///
/// Every file is written whole or not at all.
public struct RunDirectory: Sendable {
  /// The contents of `ladder.json`.
  public struct Manifest: Codable, Sendable {
    static let currentFormat = 2
    public var format = Self.currentFormat
    /// The method's name.
    public var method: String
    public var backbone: BackboneReference
    public var configuration: TrainingConfiguration
    /// Trainable numbers.
    public var parameters: Int
    /// Of a side network: its width, its layers (as many as rungs for each climb), and its rungs.
    public var width: Int?
    public var layers: Int?
    public var rungs: [Int]?
    /// The step whose weights `ladder.safetensors` holds, and its validation loss where there is one.
    public var step: Int
    public var validationLoss: Float?
    public var finished: Bool
    /// With a cached head: whether every sample had its references when the run began, so that its first epoch uses them too.
    public var beginsFromReferences: Bool? = nil
  }

  public struct BackboneReference: Codable, Sendable, Equatable {
    public var name: String
    public var fingerprint: String
    public var architecture: String
    public var blocks: Int
    public var width: Int
  }

  public let path: String

  public init(_ path: String) { self.path = path }

  public var manifestPath: String { path + "/ladder.json" }
  public var weightsPath: String { path + "/ladder.safetensors" }
  public var metricsPath: String { path + "/metrics.jsonl" }
  var checkpointsPath: String { path + "/checkpoints" }

  /// - Throws: `missing` where this is no run.
  public func manifest() throws -> Manifest {
    guard FileManager.default.fileExists(atPath: manifestPath) else {
      throw LadderError(.missing, "\(path) is not a run: it has no ladder.json")
    }
    do {
      return try JSONDecoder().decode(Manifest.self, from: try Self.current(try DurableFile.read(manifestPath)))
    } catch is DecodingError {
      throw LadderError(.data, "\(manifestPath) cannot be read as a run's settings; it was written by another version or by hand")
    }
  }

  /// A manifest's JSON in the present format.
  private static func current(_ data: Data) throws -> Data {
    guard var manifest = try? JSONSerialization.jsonObject(with: data) as? [String: Any], (manifest["format"] as? Int ?? 1) < 2,
      var configuration = manifest["configuration"] as? [String: Any], let side = configuration["side"]
    else { return data }
    // Format 1 had a side network's settings beside the adapter's, where there were any.
    configuration["method"] = configuration["lora"].map { ["lora": $0] } ?? ["ladder": side]
    manifest["configuration"] = configuration
    return try JSONSerialization.data(withJSONObject: manifest)
  }

  /// The run's steps so far.
  package func metrics() throws -> [TrainingStep] {
    try DurableFile.read(metricsPath).split(separator: UInt8(ascii: "\n")).map { try JSONDecoder().decode(TrainingStep.self, from: Data($0)) }
  }

  package func write(_ manifest: Manifest) throws {
    try DurableFile.write(manifestPath, json: manifest)
  }

  /// Loads what the run trained onto its backbone.
  /// - Throws: `data` with both fingerprints where the backbone is another one.
  package func predictor(_ backbone: Backbone) throws -> any Predictor {
    let manifest = try manifest()
    guard manifest.backbone.fingerprint == backbone.fingerprint else {
      throw LadderError(
        .data,
        "\(path) was trained on \(manifest.backbone.name) (fingerprint \(manifest.backbone.fingerprint)), and \(backbone.path) has fingerprint \(backbone.fingerprint); pass the model that it was trained on"
      )
    }
    guard FileManager.default.fileExists(atPath: weightsPath) else {
      throw LadderError(.missing, "\(path) holds no weights yet; let its training run on with --resume")
    }
    return try manifest.configuration.method.tuning.predictor(backbone, weights: weightsPath, folder: path)
  }

  // MARK: - Checkpoints

  struct CheckpointState: Codable {
    var step: Int
    var tokens: Int
    var bestLoss: Float?
    var bestStep: Int?
    /// Bytes of metrics.jsonl that belong to this checkpoint.
    var metricsBytes: Int
    /// Steps that the weights' mean is over; nil without one.
    var averaged: Int?
  }

  /// Writes a checkpoint under a temporary folder name, renames it, then removes older ones.
  func saveCheckpoint(_ state: CheckpointState, _ session: TrainingSession) throws {
    var state = state
    state.averaged = session.average?.count
    let final = "\(checkpointsPath)/step-\(state.step)", temporary = final + ".tmp"
    try? FileManager.default.removeItem(atPath: temporary)
    try DurableFile.makeFolder(temporary)
    do {
      try session.learner.export().write(temporary + "/ladder.safetensors")
      var moments = Safetensors()
      func add(_ name: String, _ state: [[Float]]) {
        for (index, values) in state.enumerated() { moments.tensors["\(name).\(index)"] = .init(shape: [values.count], values: values) }
      }
      add("moments", session.optimiser.state())
      add("average", session.average?.state() ?? [])
      try moments.write(temporary + "/optimiser.safetensors")
      try DurableFile.write(temporary + "/state.json", json: state)
      try? FileManager.default.removeItem(atPath: final)
      guard rename(temporary, final) == 0 else {
        throw LadderError(.inputOutput, "cannot write \(final): \(String(cString: strerror(errno)))")
      }
    } catch {
      try? FileManager.default.removeItem(atPath: temporary)
      throw error
    }
    DurableFile.syncFolder(checkpointsPath)
    for step in checkpoints() where step != state.step { try? FileManager.default.removeItem(atPath: "\(checkpointsPath)/step-\(step)") }
  }

  /// Steps that have a whole checkpoint, ascending.
  func checkpoints() -> [Int] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: checkpointsPath)) ?? []
    return names.compactMap { $0.hasPrefix("step-") ? Int($0.dropFirst(5)) : nil }
      .filter { FileManager.default.fileExists(atPath: "\(checkpointsPath)/step-\($0)/state.json") }.sorted()
  }

  func loadCheckpoint(_ step: Int, _ session: TrainingSession) throws -> CheckpointState {
    let folder = "\(checkpointsPath)/step-\(step)"
    let state: CheckpointState
    do {
      state = try JSONDecoder().decode(CheckpointState.self, from: try DurableFile.read(folder + "/state.json"))
    } catch is DecodingError {
      throw LadderError(.data, "\(folder)/state.json is broken; remove the folder and resume from an older checkpoint")
    }
    try session.learner.restore(try Safetensors(path: folder + "/ladder.safetensors"), from: folder + "/ladder.safetensors")
    let moments = try Safetensors(path: folder + "/optimiser.safetensors")
    func take(_ name: String, _ counts: [Int]) throws -> [[Float]] {
      try counts.enumerated().map { index, count in
        guard let entry = moments.tensors["\(name).\(index)"], entry.values.count == count else {
          throw LadderError(.data, "\(folder)/optimiser.safetensors was written for other settings")
        }
        return entry.values
      }
    }
    session.optimiser.restore(try take("moments", session.optimiser.stateCounts), step: state.step)
    if let average = session.average { average.restore(try take("average", average.stateCounts), count: state.averaged ?? 0) }
    return state
  }
}

/// Appends lines to `metrics.jsonl`.
struct MetricsFile {
  private let handle: FileHandle
  private let path: String

  /// - Parameter bytes: what is kept of an older file: the lines of steps that will not be taken again.
  init(_ path: String, keeping bytes: Int) throws {
    if !FileManager.default.fileExists(atPath: path), !FileManager.default.createFile(atPath: path, contents: nil) {
      throw LadderError(.inputOutput, "cannot write \(path): \(String(cString: strerror(errno)))")
    }
    guard let handle = FileHandle(forWritingAtPath: path) else { throw LadderError(.inputOutput, "cannot write \(path): check its permissions") }
    self.handle = handle
    self.path = path
    try handle.truncate(atOffset: UInt64(bytes))
    try handle.seekToEnd()
  }

  var bytes: Int { Int((try? handle.offset()) ?? 0) }

  func append(_ step: TrainingStep) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    do {
      try handle.write(contentsOf: try encoder.encode(step) + Data("\n".utf8))
    } catch {
      throw LadderError(.inputOutput, "cannot write \(path): the disk may be full; make room and go on with --resume")
    }
  }
}
