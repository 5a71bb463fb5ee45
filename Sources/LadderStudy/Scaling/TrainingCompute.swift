import LadderBackbone
import LadderCompute
import LadderLoRA
import LadderSide
import LadderTrain

/// Floating-point operations of training, by formula: a multiplication and an addition are two.
///
/// Through a matrix of N numbers a token costs 2N forward, 2N for the gradient of its input, 2N for the gradient of the matrix.
/// Attention of T tokens costs 2·T·d forward a token and block, on average. Norms and non-linearities are left out.
public struct TrainingCompute: Sendable {
  private let model: ModelDimensions
  private let file: GGUFFile

  public init(_ file: GGUFFile) throws {
    self.file = file
    model = try ModelDimensions(file)
  }

  /// Numbers in the matrices of all blocks.
  var blockNumbers: Int {
    let d = model.width, q = model.heads * model.headSize, k = model.keyHeads * model.headSize
    return model.blocks * (d * (q + 2 * k) + q * d + 3 * d * model.feedForward)
  }

  private func attention(_ length: Double) -> Double { 2 * length * Double(model.heads * model.headSize * model.blocks) }

  /// One pass over the data.
  /// - Parameters:
  ///   - tokens: of all samples.
  ///   - lossRows: of all samples.
  ///   - length: mean tokens of a sample.
  func floatingPointOperations(_ configuration: TrainingConfiguration, tokens: Int, lossRows: Int, length: Double) throws -> Double {
    let t = Double(tokens), forward = 2 * Double(blockNumbers) + attention(length)
    // The head's gradient is worked over the few entries that matter, and left out.
    let head = 2 * Double(model.width * model.vocabulary) * Double(lossRows)
    if let lora = configuration.lora {
      let own = LoRAModel.specifications(lora, try BlockShape(file)).reduce(0) { $0 + $1.count }
      // Forward, the gradient of the inputs, attention's twice over; with checkpointing the forward pass again.
      let backward = 2 * Double(blockNumbers) + 2.5 * attention(length)
      return t * (forward * (lora.checkpointing ? 2 : 1) + backward + 6 * Double(own)) + head
    }
    let geometry = try SideGeometry(configuration.side, backboneWidth: model.width, blocks: model.blocks)
    let matrices = SideNetwork.specifications(configuration.side, geometry).filter(\.decays)
    let up = Double(geometry.width * model.width), layers = Double(matrices.reduce(0) { $0 + $1.count }) - up
    // Each layer's inside is computed twice.
    let side = 8 * layers + 3.5 * 2 * length * Double(geometry.width * geometry.layers)
    return t * (forward + side) + 6 * up * Double(lossRows) + head
  }
}
