import LadderBackbone
import LadderCompute
import LadderCore

/// The model's weights as the file has them, quantised, in the engine's memory: what is differentiated through.
///
/// llama.cpp may pack its own copy for its kernels, which then cannot be read row by row; this one is the only copy while
/// QLoRA trains.
package final class FrozenWeights {
  private let pool: TensorPool
  private var tensors: [String: Tensor] = [:]
  /// Its weight may be the embedding.
  private let head: Head

  /// - Parameter firstBlock: blocks below it, and where there are some the embedding, are left out.
  package init(_ backbone: Backbone, firstBlock: Int = 0) throws {
    let file = backbone.file, head = backbone.head
    self.head = head
    pool = TensorPool(backbone.engine, tensors: file.tensors.count + 8)
    for info in file.tensors {
      if let block = GraphNames.block(ofWeight: info.name) {
        if block < firstBlock { continue }
      } else if firstBlock > 0, info.name == "token_embd.weight", info.name != head.description.tensor {
        continue
      }
      if info.name == head.description.tensor {
        tensors[info.name] = head.weight
      } else {
        tensors[info.name] = try file.load(info, into: pool)
      }
    }
  }

  package subscript(name: String) -> Tensor? { tensors[name] }

  /// - Throws: `data` where the model has no such tensor.
  package func require(_ name: String) throws -> Tensor {
    guard let tensor = tensors[name] else {
      throw LadderError(.data, "the model has no tensor \(name); convert it again")
    }
    return tensor
  }
}
