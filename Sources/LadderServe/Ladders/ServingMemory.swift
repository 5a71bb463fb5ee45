import Foundation
import LadderBackbone
import LadderCore
import LadderInference
import LadderMethods
import LadderTrain

extension GenerationMemory {
  /// What serving a model takes, with the runs that the settings name and those in their folder that are the model's.
  /// - Parameter fingerprint: the file's; nil for a shape, which has no runs.
  /// - Throws: what reading the settings of a run throws that is named.
  package init(
    _ file: GGUFFile, _ fingerprint: ModelFingerprint?, _ settings: ServerSettings
  ) throws(LadderError) {
    self = try LadderError.unify {
      let model = try ModelDimensions(file)
      var served = try settings.adapters.map { try Self.load($0, model) { _ in true } }
      if let folder = settings.folder, let fingerprint {
        let named = Set(settings.adapters.map(Catalogue.name(of:)))
        // Of two of one name the named one is served; what cannot be read or is another model's is not.
        for name in try Catalogue.names(in: folder) where !named.contains(name) {
          guard let path = Catalogue.path(of: name, in: folder) else { continue }
          served.append(try? Self.load(path, model) { try $0.isSame(as: file, fingerprint) })
        }
      }
      return GenerationMemory(model, settings.generation, served.compactMap(\.self))
    }
  }

  /// Nil where it belongs to another model.
  private static func load(
    _ path: String, _ model: ModelDimensions, belongs: (RunDirectory.BackboneReference) throws -> Bool
  ) throws -> ServingLoad? {
    guard path.hasSuffix(".gguf") else {
      let manifest = try RunDirectory(path).manifest()
      return try belongs(manifest.backbone) ? manifest.configuration.method.tuning.serving(model) : nil
    }
    guard let bytes = try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int else {
      throw LadderError(.missing, "there is no \(path.shown)")
    }
    return ServingLoad(weights: bytes, hasContext: true)
  }
}
