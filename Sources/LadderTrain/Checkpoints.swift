import Foundation
import LadderBackbone
import LadderCore

/// What `--resume` goes on from: `checkpoints/step-N/` holds the weights, the optimiser's state and the run's own.
///
/// A checkpoint is written under a temporary name, `state.json` last, and renamed; what it takes the place of is
/// removed only then. So at every moment one is whole, under whatever name.
extension RunDirectory {
  struct CheckpointState: Codable {
    var step: Int
    var tokens: Int
    var bestLoss: Float?
    var bestStep: Int?
    /// Bytes of metrics.jsonl that belong to this checkpoint.
    var metricsBytes: Int
    /// Steps that the weights' mean is over; nil without one.
    var averaged: Int?
    /// The last step that was validated.
    var validated: Int?
    /// That training took so far, in all processes together.
    var seconds: Double?
  }

  func saveCheckpoint(_ state: CheckpointState, _ session: TrainingSession) throws {
    let final = "\(checkpointsPath)/step-\(state.step)", temporary = final + ".tmp", old = final + ".old"
    try DurableFile.makeFolder(checkpointsPath)
    try? FileManager.default.removeItem(atPath: temporary)
    try DurableFile.makeFolder(temporary)
    do {
      try session.learner.export().write(temporary + "/ladder.safetensors")
      var moments = Safetensors()
      func add(_ name: String, _ state: [Safetensors.Entry]) {
        for (index, entry) in state.enumerated() { moments.tensors["\(name).\(index)"] = entry }
      }
      add("moments", session.optimiser.state)
      add("average", session.average?.state ?? [])
      try moments.write(temporary + "/optimiser.safetensors")
      try DurableFile.write(temporary + "/state.json", json: state)
    } catch {
      try? FileManager.default.removeItem(atPath: temporary)
      throw error
    }
    if FileManager.default.fileExists(atPath: final) {
      try? FileManager.default.removeItem(atPath: old)
      try DurableFile.move(final, to: old)
    }
    try DurableFile.move(temporary, to: final)
    DurableFile.syncFolder(checkpointsPath)
    for folder in checkpointFolders() where folder != final { try? FileManager.default.removeItem(atPath: folder) }
  }

  /// Writes the state of a checkpoint anew whose weights stay as they are.
  func update(_ state: CheckpointState) throws {
    let folder = "\(checkpointsPath)/step-\(state.step)"
    guard FileManager.default.fileExists(atPath: folder + "/state.json") else { return }
    try DurableFile.write(folder + "/state.json", json: state)
  }

  /// Whether there is a whole checkpoint.
  var hasCheckpoint: Bool { !checkpointFolders().isEmpty }

  /// Whether there is anything that was learned.
  package var holdsWork: Bool { hasCheckpoint || FileManager.default.fileExists(atPath: weightsPath) }

  /// Restores the latest checkpoint; nil where there is none.
  /// - Throws: `data` where it was written for other settings, or none is readable.
  func loadCheckpoint(_ session: TrainingSession) throws -> CheckpointState? {
    var failure: (any Error)?
    for folder in checkpointFolders() {
      do { return try load(folder, session) } catch { failure = failure ?? error }
    }
    if let failure { throw failure }
    return nil
  }

  /// Folders of whole checkpoints, the latest step first; of one step the one under its final name first.
  private func checkpointFolders() -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: checkpointsPath)) ?? []
    let found = names.compactMap { name -> (step: Int, rank: Int, path: String)? in
      let parts = name.split(separator: ".", maxSplits: 1)
      guard name.hasPrefix("step-"), let step = Int(parts[0].dropFirst(5)) else { return nil }
      let path = "\(checkpointsPath)/\(name)", rank = parts.count == 1 ? 0 : parts[1] == "tmp" ? 1 : 2
      return FileManager.default.fileExists(atPath: path + "/state.json") ? (step, rank, path) : nil
    }
    return found.sorted { ($1.step, $0.rank) < ($0.step, $1.rank) }.map(\.path)
  }

  private func load(_ folder: String, _ session: TrainingSession) throws -> CheckpointState {
    let state: CheckpointState
    do {
      state = try JSONDecoder().decode(CheckpointState.self, from: try DurableFile.read(folder + "/state.json"))
    } catch is DecodingError {
      throw LadderError(.data, "\(folder)/state.json is broken; remove the folder and resume from an older checkpoint")
    }
    try session.learner.restore(
      try Safetensors(path: folder + "/ladder.safetensors"), from: folder + "/ladder.safetensors")
    let moments = try Safetensors(path: folder + "/optimiser.safetensors")
    /// The entries that take the place of `present`, some of which older checkpoints keep as F32.
    func take(_ name: String, _ present: [Safetensors.Entry]) throws -> [Safetensors.Entry] {
      try present.enumerated().map { index, own in
        guard let entry = moments.tensors["\(name).\(index)"], entry.shape == own.shape,
          entry.element == own.element || entry.element == .float32
        else {
          throw LadderError(.data, "\(folder)/optimiser.safetensors was written for other settings")
        }
        return entry
      }
    }
    try session.optimiser.restore(try take("moments", session.optimiser.state), step: state.step)
    if let average = session.average {
      try average.restore(try take("average", average.state), count: state.averaged ?? 0)
    }
    return state
  }
}
