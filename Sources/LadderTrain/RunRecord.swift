import Foundation
import LadderBackbone
import LadderCore
import LadderMethods

/// What a training reads of its run's folder and writes there. Of several ranks the first alone has one.
final class RunRecord {
  private let run: RunDirectory
  private let lock: FolderLock
  private let backbone: Backbone
  private let configuration: TrainingConfiguration
  /// The run that the folder holds, where this one goes on with it.
  let earlier: RunDirectory.Manifest?
  /// What the manifest says besides settings and state; set before `begin`.
  var identity: RunIdentity?
  var began: Double?
  var beginsFromReferences: Bool?
  private var metrics: MetricsFile?

  /// Locks the folder.
  /// - Throws: `usage` where it holds a run of other settings, or one that nobody asked to go on with.
  init(_ run: RunDirectory, _ trainer: Trainer, resume: Bool) throws {
    self.run = run
    backbone = trainer.backbone
    configuration = trainer.configuration
    lock = try FolderLock(run.path, "training", option: "into")
    try run.sweep()
    earlier = try Self.earlier(run, trainer, resume: resume)
  }

  private static func earlier(_ run: RunDirectory, _ trainer: Trainer, resume: Bool) throws -> RunDirectory.Manifest? {
    guard FileManager.default.fileExists(atPath: run.manifestPath) else { return nil }
    let old = try run.manifest(), hasBegun = old.finished || run.holdsWork
    guard resume || !hasBegun else {
      throw LadderError(.usage, "\(run.path) already holds a run; pass `resume` to go on with it, or another `into`")
    }
    // What never took a step that was saved holds nothing to lose.
    guard resume, hasBegun else { return nil }
    if old.finished, !run.hasCheckpoint {
      throw LadderError(
        .usage,
        "\(run.path) holds a run without its checkpoints, which cannot go on; take another `into`, or begin from its "
          + "weights with `warmStart`")
    }
    try old.backbone.require(trainer.backbone, run: run.path)
    var changed = trainer.configuration.differences(from: old.configuration)
    // A finished run may go on for longer.
    if old.finished { changed.removeAll { $0 == "epochs" || $0 == "steps" } }
    try refuse(changed.map { "`\($0)`" })
    return old
  }

  /// - Parameter own: the format that changes nothing of what the method reads.
  /// - Throws: `usage` where the run was made from something else.
  func require(_ identity: RunIdentity, own: CacheFormat) throws {
    try Self.refuse(identity.differences(from: earlier?.identity ?? identity, own: own))
    self.identity = identity
  }

  private static func refuse(_ differences: [String]) throws {
    guard differences.isEmpty else {
      throw LadderError(
        .usage, "`resume` continues the run as it began, and these differ: \(differences.joined(separator: ", "))")
    }
  }

  /// Restores the last checkpoint; nil where there is none.
  func restore(_ session: TrainingSession) throws -> RunDirectory.CheckpointState? { try run.loadCheckpoint(session) }

  /// Steps are about to be taken from this state.
  /// - Parameter total: steps of the whole run.
  /// - Throws: `usage` where the run has taken more.
  func begin(_ state: RunDirectory.CheckpointState, total: Int) throws {
    guard state.step <= total else {
      throw LadderError(
        .usage,
        "\(run.path) holds \(state.step) steps, and `epochs` or `steps` ask for \(total): take another `into`, or ask for more"
      )
    }
    if state.step < total {
      var manifest = try manifest(state, finished: false)
      // The weights that lie there stay until there are others.
      if let earlier { (manifest.step, manifest.validationLoss) = (earlier.step, earlier.validationLoss) }
      try run.write(manifest)
    }
    metrics = try MetricsFile(run.metricsPath, keeping: state.metricsBytes)
  }

  func append(_ line: TrainingStep) throws { try metrics?.append(line) }

  func checkpoint(_ state: inout RunDirectory.CheckpointState, _ session: TrainingSession) throws {
    state.metricsBytes = metrics?.bytes ?? 0
    state.averaged = session.average?.count
    try run.saveCheckpoint(state, session)
  }

  /// Writes what a validation gave.
  /// - Parameter loss: nil where it is not finite.
  func validated(_ state: inout RunDirectory.CheckpointState, loss: Float?, seconds: Double) throws {
    try metrics?.amendLast(step: state.step) {
      $0.validationLoss = loss
      $0.validationSeconds = seconds
    }
    state.metricsBytes = metrics?.bytes ?? 0
    try run.update(state)
    if state.bestStep == state.step { try run.write(try manifest(state, finished: false)) }
  }

  /// Writes the weights to use.
  func keep(_ session: TrainingSession) throws { try session.write(to: run) }

  /// The training ends here: done, or stopped with its state saved.
  func end(_ state: RunDirectory.CheckpointState, _ session: TrainingSession, finished: Bool) throws {
    if state.bestStep == nil { try keep(session) }
    try run.write(try manifest(state, finished: finished))
  }

  private func manifest(_ state: RunDirectory.CheckpointState, finished: Bool) throws -> RunDirectory.Manifest {
    let tuning = configuration.method.tuning, outline = try tuning.outline(on: backbone.outline)
    return RunDirectory.Manifest(
      method: tuning.name,
      backbone: .init(
        name: backbone.file.name ?? (backbone.path as NSString).lastPathComponent, fingerprint: backbone.fingerprint,
        architecture: backbone.file.architecture, blocks: backbone.blocks, width: backbone.width,
        parts: backbone.fingerprints),
      configuration: configuration, parameters: try tuning.parameters(on: backbone.file).numbers,
      width: outline.width,
      layers: outline.layers, rungs: outline.rungs.isEmpty ? nil : outline.rungs, step: state.bestStep ?? state.step,
      validationLoss: state.bestLoss, finished: finished, identity: identity,
      beginsFromReferences: beginsFromReferences, began: began)
  }
}
