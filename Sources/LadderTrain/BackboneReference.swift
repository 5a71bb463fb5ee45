import LadderBackbone
import LadderCore

extension RunDirectory.BackboneReference {
  /// Whether this names the model: by the earlier kind of fingerprint, where the run has no other.
  func isSame(as backbone: Backbone) throws -> Bool { try fingerprint == comparable(backbone) }

  /// - Parameter run: the run's folder.
  /// - Throws: `data` with both fingerprints, and with what differs where that is known, for another model.
  func require(_ backbone: Backbone, run: String) throws {
    let other = try comparable(backbone)
    if fingerprint == other { return }
    let difference = parts.map { ": \(backbone.fingerprints.difference(from: $0))" } ?? ""
    throw LadderError(
      .data,
      "\(run) was trained on \(name) (fingerprint \(fingerprint)), and \(backbone.path) has fingerprint \(other)"
        + "\(difference); pass the model that it was trained on")
  }

  /// The model's fingerprint of the kind that the run has.
  private func comparable(_ backbone: Backbone) throws -> String {
    ModelFingerprint.isEarlier(fingerprint) ? try backbone.file.earlierFingerprint() : backbone.fingerprint
  }
}
