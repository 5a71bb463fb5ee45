import Foundation
import LadderBackbone
import LadderCore

/// All ranks go on from one state: the first one's.
extension TrainingSession {
  /// Steps between two looks whether all ranks have the same parameters: machines of several kinds round unlike.
  private static let lookEvery = 32

  /// Says that this rank goes on, and from time to time has all go on from the first one's state where their parameters
  /// have come apart.
  func evenOut(_ number: Int) throws {
    guard ranks.count > 1, number % Self.lookEvery == 0 else {
      try ranks.agree()
      return
    }
    var checksum = Checksum()
    for values in learner.parameters.groups.map(\.values) {
      try values.forEachPart { bytes in for word in bytes.bindMemory(to: UInt64.self) { checksum.mix(word) } }
    }
    guard Set(try ranks.agree([checksum.value])).count > 1 else { return }
    var state = RunDirectory.CheckpointState(step: optimiser.step, tokens: 0, metricsBytes: 0)
    state.averaged = average?.count
    try share(&state)
  }

  /// Gives the first rank's parameters, optimiser's state and place in the run to all.
  func share(_ state: inout RunDirectory.CheckpointState) throws {
    guard ranks.count > 1 else { return }
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("ladder-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let files = ["ladder.safetensors", "optimiser.safetensors", "state.json"]
    let own = RunDirectory(folder), place = "\(own.checkpointsPath)/step-\(state.step)"
    let sent = try ranks.together {
      guard ranks.isFirst else { return [Data]() }
      try own.saveCheckpoint(state, self)
      return try files.map { try DurableFile.read("\(place)/\($0)") }
    }
    let received = try files.indices.map { try ranks.shared(bytes: sent[$0]) }
    state = try ranks.together {
      if ranks.isFirst { return state }
      try DurableFile.makeFolder(place)
      for (name, bytes) in zip(files, received) { try DurableFile.write("\(place)/\(name)", [bytes]) }
      guard let state = try own.loadCheckpoint(self) else {
        throw LadderError(.engine, "the first process's state did not arrive")
      }
      return state
    }
  }
}
