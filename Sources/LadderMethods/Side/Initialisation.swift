import Foundation
import LadderBackbone
import LadderCompute
import LadderCore

extension SideNetwork {
  /// Sets every parameter to its starting value. U and b are zero, so that the ladder starts as the backbone itself.
  package func initialise(seed: UInt64, backbone: Backbone) throws {
    let layers = Float(geometry.layers)
    for (index, specification) in parameters.specifications.enumerated() {
      let name = specification.name
      let fanIn = Float(specification.shape[0])
      var random = SeededRandom(seed: seed, 1, index)
      let values: [Float]
      if name.hasPrefix("up.") || name.hasSuffix(".gate") {
        values = [Float](repeating: 0, count: specification.count)
      } else if name.hasSuffix(".mixture") {
        // Half or more of the share is the rung's that the layer would climb to.
        let layer = name.split(separator: ".").compactMap { Int($0) }.first ?? 0
        values = (0..<specification.count).map {
          $0 == geometry.rung(ofLayer: layer) ? logf(Float(specification.count)) : 0
        }
      } else if name.hasSuffix("_norm") {
        values = [Float](repeating: 1, count: specification.count)
      } else {
        // Matrices that write to the residual stream are smaller, so that its size does not grow with depth.
        let writes = name.hasSuffix(".o") || name.hasSuffix("feed_forward_down")
        let columns = specification.shape[0], rows = specification.count / columns
        switch configuration.initialisation {
        case .random, .backbone:
          let deviation = 1 / (fanIn * (writes ? 2 * layers : 1)).squareRoot()
          values = (0..<specification.count).map { _ in random.normal() * deviation }
        case .xavier:
          let bound = (6 / Float(columns + rows)).squareRoot()
          values = (0..<specification.count).map { _ in (2 * random.uniform() - 1) * bound }
        case .he:
          values = (0..<specification.count).map { _ in random.normal() * (2 / fanIn).squareRoot() }
        case .orthogonal: values = Self.orthogonal(columns: columns, rows: rows, &random)
        }
      }
      parameters[name].write(values)
    }
    if configuration.initialisation == .backbone { try pruneBackbone(backbone) }
  }

  /// A matrix of `rows` rows of `columns` numbers, those that are fewer at right angles and of length 1.
  package static func orthogonal(columns: Int, rows: Int, _ random: inout SeededRandom) -> [Float] {
    let count = min(columns, rows), length = max(columns, rows)
    var vectors: [[Float]] = []
    while vectors.count < count {
      var vector = (0..<length).map { _ in random.normal() }
      // Twice, as one pass leaves what rounding has left.
      for _ in 0..<2 {
        for other in vectors {
          var product: Float = 0
          for i in 0..<length { product += vector[i] * other[i] }
          for i in 0..<length { vector[i] -= product * other[i] }
        }
      }
      let norm = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
      if norm > 1e-3 { vectors.append(vector.map { $0 / norm }) }
    }
    if rows <= columns { return vectors.flatMap { $0 } }
    return (0..<rows).flatMap { row in vectors.map { $0[row] } }
  }

  /// Copies each side layer from the block at its rung, pruned to the channels of largest weight norm (LST, §3.3).
  private func pruneBackbone(_ backbone: Backbone) throws {
    let byName = Dictionary(uniqueKeysWithValues: backbone.file.tensors.map { ($0.name, $0) })
    let width = geometry.width
    let attentionWidth = geometry.attentionWidth
    let feedForward = geometry.feedForward
    for layer in 0..<geometry.layers {
      // Free layers begin as the blocks at the rungs do, from the first on again.
      let block = max(0, geometry.rungs[layer % geometry.rungs.count] - 1)
      func matrix(_ name: String) throws -> Matrix {
        guard let info = byName["blk.\(block).\(name).weight"], info.shape.count == 2 else {
          throw LadderError(
            .usage,
            "`initialisation` backbone: \(backbone.path) has no matrix blk.\(block).\(name).weight; take "
              + "`initialisation` random"
          )
        }
        return Matrix(columns: info.shape[0], rows: info.shape[1], values: try backbone.file.values(of: info))
      }
      let q = try matrix("attn_q")
      let k = try matrix("attn_k")
      let v = try matrix("attn_v")
      let output = try matrix("attn_output")
      let gate = try matrix("ffn_gate")
      let up = try matrix("ffn_up")
      let down = try matrix("ffn_down")
      // One choice of residual channels for the whole layer, by the norm of what reads them; one of inner channels.
      let channels = Matrix.largest(width, of: Matrix.columnNorms([q, k, v, gate, up]))
      let inner = Matrix.largest(feedForward, of: Matrix.rowNorms(up))
      func largestRows(_ matrix: Matrix) -> [Int] { Matrix.largest(attentionWidth, of: Matrix.rowNorms(matrix)) }
      func set(_ name: String, _ values: [Float]) { parameters["layers.\(layer).\(name)"].write(values) }
      set("q", q.pruned(rows: largestRows(q), columns: channels, to: attentionWidth))
      set("k", k.pruned(rows: largestRows(k), columns: channels, to: attentionWidth))
      set("v", v.pruned(rows: largestRows(v), columns: channels, to: attentionWidth))
      // With grouped queries several heads read one value row; take the columns of o that carry most.
      let mixed = Matrix.largest(attentionWidth, of: Matrix.columnNorms([output]))
      set("o", output.pruned(rows: channels, columns: mixed, to: width))
      set("feed_forward_gate", gate.pruned(rows: inner, columns: channels, to: feedForward))
      set("feed_forward_up", up.pruned(rows: inner, columns: channels, to: feedForward))
      set("feed_forward_down", down.pruned(rows: channels, columns: inner, to: width))
    }
  }
}

/// A dense matrix in ggml's order: `rows` rows of `columns` numbers.
private struct Matrix {
  let columns: Int
  let rows: Int
  let values: [Float]

  static func rowNorms(_ matrix: Matrix) -> [Float] {
    let columns = matrix.columns
    return (0..<matrix.rows).map { row in
      matrix.values[(row * columns)..<((row + 1) * columns)].reduce(0) { $0 + $1 * $1 }
    }
  }

  static func columnNorms(_ list: [Matrix]) -> [Float] {
    var norms = [Float](repeating: 0, count: list[0].columns)
    for matrix in list {
      for row in 0..<matrix.rows {
        for column in 0..<matrix.columns {
          let value = matrix.values[row * matrix.columns + column]
          norms[column] += value * value
        }
      }
    }
    return norms
  }

  /// The indices of the `count` largest norms, ascending; repeated from the start where there are fewer.
  static func largest(_ count: Int, of norms: [Float]) -> [Int] {
    let chosen = norms.indices.sorted { norms[$0] > norms[$1] }.prefix(count).sorted()
    return (0..<count).map { chosen[$0 % chosen.count] }
  }

  /// The chosen rows and columns; the rest, where the backbone has fewer (grouped keys), repeats them from the start.
  func pruned(rows chosenRows: [Int], columns chosenColumns: [Int], to count: Int) -> [Float] {
    var result: [Float] = []
    result.reserveCapacity(count * chosenColumns.count)
    for i in 0..<count {
      let row = chosenRows[i % chosenRows.count]
      for column in chosenColumns { result.append(values[row * columns + column]) }
    }
    return result
  }
}
