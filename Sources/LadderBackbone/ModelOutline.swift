/// What of a model decides a side network's shape.
public struct ModelOutline: Codable, Sendable, Equatable {
  public var blocks: Int
  /// Width of the hidden states.
  public var width: Int

  public init(blocks: Int, width: Int) {
    self.blocks = blocks
    self.width = width
  }
}

extension Backbone {
  public var outline: ModelOutline { ModelOutline(blocks: blocks, width: width) }
}

extension ModelDimensions {
  public var outline: ModelOutline { ModelOutline(blocks: blocks, width: width) }
}
