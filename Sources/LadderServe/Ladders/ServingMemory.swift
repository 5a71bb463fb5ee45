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
      return GenerationMemory(
        model, settings.generation, try (settings.adapters + (found ?? [])).map { try Self.load($0, model) })
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
