import Foundation
import LadderBackbone
import LadderCore
import LadderInference
import LadderMethods
import LadderTrain

extension GenerationMemory {
  /// What serving a model takes, with the runs that the settings name and those that lie in their folder.
  /// - Throws: what reading a run's settings throws.
  package init(_ file: GGUFFile, _ settings: ServerSettings) throws(LadderError) {
    self = try LadderError.unify {
      let model = try ModelDimensions(file)
      let found = try settings.folder.map { folder in
        try Catalogue.names(in: folder).compactMap { Catalogue.path(of: $0, in: folder) }
      }
      let named = Set(settings.adapters.map(Catalogue.name(of:)))
      let fingerprint = found == nil ? nil : try file.fingerprint().text, earlier = try? file.earlierFingerprint()
      // What is of another model is not served, nor what has the name of another.
      let served = (found ?? []).filter { !named.contains(Catalogue.name(of: $0)) }.compactMap { path in
        let own = path.hasSuffix(".gguf") ? fingerprint : try? RunDirectory(path).manifest().backbone.fingerprint
        return own == fingerprint || own == earlier ? try? Self.load(path, model) : nil
      }
      return GenerationMemory(
        model, settings.generation, try settings.adapters.map { try Self.load($0, model) } + served)
    }
  }

  private static func load(_ path: String, _ model: ModelDimensions) throws -> ServingLoad {
    guard path.hasSuffix(".gguf") else {
      return try RunDirectory(path).manifest().configuration.method.tuning.serving(model)
    }
    guard let bytes = try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int else {
      throw LadderError(.missing, "there is no \(path.shown)")
    }
    return ServingLoad(weights: bytes, hasContext: true)
  }
}
