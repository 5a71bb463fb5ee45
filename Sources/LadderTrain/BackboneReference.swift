import LadderBackbone
import LadderCore

extension RunDirectory.BackboneReference {
  /// Whether this names the model: by the earlier kind of fingerprint, where the run has no other.
  func isSame(as backbone: Backbone) throws -> Bool { try isSame(as: backbone.file, backbone.fingerprints) }

  /// The same of a model that is not loaded.
  /// - Parameter own: the file's.
  package func isSame(as file: GGUFFile, _ own: ModelFingerprint) throws -> Bool {
    try fingerprint == comparable(file, own)
  }

  /// - Parameter run: the run's folder.
  /// - Throws: `data` with both fingerprints, and with what differs where that is known, for another model.
  func require(_ backbone: Backbone, run: String) throws {
    try require(backbone.file, backbone.fingerprints, run: run)
  }

  /// The same of a model that is not loaded.
  /// - Parameter own: the file's.
  func require(_ file: GGUFFile, _ own: ModelFingerprint, run: String) throws {
    let other = try comparable(file, own)
    if fingerprint == other { return }
    let difference = parts.map { ": \(own.difference(from: $0))" } ?? ""
    throw LadderError(
      .data,
      "\(run) was trained on \(name) (fingerprint \(fingerprint)), and \(file.path) has fingerprint \(other)"
        + "\(difference); pass the model that it was trained on")
  }

  /// The model's fingerprint of the kind that the run has.
  private func comparable(_ file: GGUFFile, _ own: ModelFingerprint) throws -> String {
    ModelFingerprint.isEarlier(fingerprint) ? try file.earlierFingerprint() : own.text
  }
}
