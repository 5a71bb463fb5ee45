import CLlama
import LadderBackbone
import LadderCore
import LadderMethods

/// A small model that takes as long for each block, or each row of its head, as another does: a few of its blocks, a cut
/// vocabulary, random weights.
struct ProxyModel {
  private let model: GGUFFile
  private let dimensions: ModelDimensions
  private let blocks: Int
  private let vocabulary: Int

  init(of model: GGUFFile, _ dimensions: ModelDimensions, blocks: Int, vocabulary: Int) {
    self.model = model
    self.dimensions = dimensions
    self.blocks = blocks
    self.vocabulary = vocabulary
  }

  /// Of the model's own kind where its blocks are known to be alike, else a llama of its shape.
  func write(_ path: String) throws {
    if let shape = try? BlockShape(model), shape.blocks >= blocks { return try writeOwn(path) }
    let shape = ModelShape(
      name: "proxy", architecture: "llama", blocks: blocks, width: dimensions.width,
      feedForward: dimensions.feedForward, heads: dimensions.heads, keyHeads: dimensions.keyHeads,
      vocabulary: vocabulary, tied: true, headSize: dimensions.headSize)
    try RandomModel(shape, blockType: dimensions.blockType, headType: dimensions.headType).write(path)
  }

  private func writeOwn(_ path: String) throws {
    let file = try model.copiedMetadata()
    defer { gguf_free(file) }
    let own = "\(model.architecture)."
    for key in model.metadata.keys where key.hasPrefix("tokenizer.") || key == own + "vocab_size" {
      gguf_remove_key(file, key)
    }
    gguf_set_val_u32(file, own + "block_count", UInt32(blocks))
    ByteTokenizer.write(file, vocabulary: vocabulary)
    try RandomTensors(entries: tensors, seed: 0).write(file, to: path)
  }

  /// The first blocks' tensors, in the types that blocks spread over the model have: many files have better types in
  /// some blocks than in others.
  private var tensors: [RandomTensors.Entry] {
    let byName = Dictionary(model.tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    return model.tensors.compactMap { tensor in
      let isVector = tensor.shape.count == 1
      var type = isVector ? GGML_TYPE_F32 : tensor.ggmlType
      if let (_, number, name) = tensor.name.wholeMatch(of: /blk\.(\d+)\.(.+)/)?.output {
        guard let block = Int(number), block < blocks else { return nil }
        let other = byName["blk.\(dimensions.blocks * (2 * block + 1) / (2 * blocks)).\(name)"]
        if !isVector, let other, other.shape == tensor.shape { type = other.ggmlType }
      }
      let isVocabulary = ["token_embd.weight", "output.weight"].contains(tensor.name)
      return RandomTensors.Entry(
        name: tensor.name, shape: isVocabulary ? [tensor.shape[0], vocabulary] : tensor.shape, type: type,
        scale: isVector ? (tensor.name.hasSuffix(".bias") ? 0 : 1) : isVocabulary ? 0.05 : 0.02)
    }
  }
}
