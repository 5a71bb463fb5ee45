import CLlama
import Foundation
import LadderCompute
import LadderCore

/// A LoRA adapter in a GGUF file, which llama.cpp itself applies to the model.
package final class EngineAdapter {
  let pointer: OpaquePointer
  /// The adapter lives no longer than its model.
  private let owner: ModelOwner
  private let engine: Engine

  /// - Throws: `missing`; `data` where llama.cpp refuses the file.
  package init(path: String, _ backbone: Backbone) throws {
    guard FileManager.default.fileExists(atPath: path) else { throw LadderError(.missing, "no adapter at \(path)") }
    Log.clearError()
    let owner = try backbone.owner()
    guard let pointer = backbone.engine.inTurn({ llama_adapter_lora_init(owner.model, path) }) else {
      throw LadderError(.data, "\(path) is no adapter of this model: \(Log.takeError())")
    }
    self.pointer = pointer
    self.owner = owner
    engine = backbone.engine
  }

  deinit { engine.inTurn { llama_adapter_lora_free(pointer) } }
}
