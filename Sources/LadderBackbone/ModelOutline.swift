/// What of a model decides a side network's shape.
package struct ModelOutline: Codable, Sendable, Equatable {
  package var blocks: Int
  /// Width of the hidden states.
  package var width: Int

  package init(blocks: Int, width: Int) {
    self.blocks = blocks
    self.width = width
  }
}

extension Backbone {
  package var outline: ModelOutline { ModelOutline(blocks: blocks, width: width) }
}

extension ModelDimensions {
  package var outline: ModelOutline { ModelOutline(blocks: blocks, width: width) }
}
