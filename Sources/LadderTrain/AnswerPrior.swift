import Foundation
import LadderBackbone
import LadderCompute
import LadderData

/// How frequent the answers are that rows choose among, and the constant addition to the head's input that makes the
/// model as likely to give each: a side network then learns from the first step what tells samples apart, not how
/// frequent an answer is. Calibration against a model's leaning to one answer: Zhao et al., "Calibrate Before Use"
/// (ICML 2021), §4, in the hidden state.
struct AnswerPrior {
  /// One row that carries loss among rivals.
  struct Row {
    /// Ascending ids of vocabulary entries, the target among them, with the model's logits.
    var rivals: [Int32]
    var logits: [Double]
    var target: Int32
  }

  private let ids: [Int32]
  /// What each entry's product W·x rises by.
  private let shifts: [Double]

  /// The samples' rows that have rivals. Shapes: final, the head's input, [d, loss rows of all samples].
  static func rows(_ final: Tensor, _ samples: [EncodedSample], _ backbone: Backbone) throws -> [Row] {
    let pool = TensorPool(backbone.engine), graph = try Graph(backbone.engine)
    return try zip(samples.flatMap(\.rivals), samples.flatMap(\.targets)).enumerated().filter { !$1.0.isEmpty }.map {
      row, answer in
      try pool.reset()
      graph.reset()
      let logits = graph.keep(
        backbone.head.logits(graph, graph.slice(final, 1, row..<(row + 1)), of: try pool.make(answer.0)))
      try graph.compute()
      return Row(rivals: answer.0, logits: logits.read().map(Double.init), target: answer.1)
    }
  }

  /// Fits the shifts by iterative proportional fitting. Nil without rows.
  init?(_ rows: [Row], _ head: Head) {
    guard !rows.isEmpty else { return nil }
    let ids = Set(rows.flatMap(\.rivals)).sorted(),
      places = Dictionary(uniqueKeysWithValues: ids.enumerated().map { ($1, $0) })
    let own = rows.map { row in
      zip(row.rivals, row.logits).compactMap { id, logit in places[id].map { ($0, head.product(atLogit: logit)) } }
    }
    // Each answer is counted half a time more than it was seen: one that was not seen is rare, not impossible.
    var frequencies = [Double](repeating: 0.5, count: ids.count), shifts = [Double](repeating: 0, count: ids.count)
    for row in rows { if let place = places[row.target] { frequencies[place] += 1 } }
    for _ in 0..<1000 {
      var expected = [Double](repeating: 0.5, count: ids.count)
      for products in own {
        let logits = products.map { place, product in head.logit(atProduct: product + shifts[place]) },
          most = logits.max() ?? 0
        let weights = logits.map { exp($0 - most) }, sum = weights.reduce(0, +)
        for ((place, _), weight) in zip(products, weights) { expected[place] += weight / sum }
      }
      let steps = zip(frequencies, expected).map { log($0 / $1) / head.steepest }
      for place in shifts.indices { shifts[place] += steps[place] }
      if steps.allSatisfy({ abs($0) < 1e-6 }) { break }
    }
    self.ids = ids
    // A constant on all says nothing where logits are not capped; without it the addition is shorter.
    let mean = head.capped ? 0 : shifts.reduce(0, +) / Double(shifts.count)
    // Rounded, so that the last bits of what the backbone computes, which depend on the samples beside, do not matter.
    self.shifts = shifts.map { (64 * ($0 - mean)).rounded() / 64 }
  }

  /// The shortest b for which W·b is the shifts, [d]: Wᵀ·c with (W·Wᵀ)·c = shifts, over the answers' rows of W.
  func bias(_ backbone: Backbone) throws -> [Float] {
    let head = backbone.head, width = head.width, pool = TensorPool(backbone.engine), graph = try Graph(backbone.engine)
    let entries = try pool.make(ids)
    let rows = graph.keep(graph.rows(of: head.weight, entries))  // [d, ids]
    try graph.compute()
    let values = rows.read(), w = ids.indices.map { values[($0 * width)..<(($0 + 1) * width)].map(Double.init) }
    // Conjugate gradients: the matrix is as large as there are answers, and positive.
    func product(_ c: [Double]) -> [Double] {
      let sum = combination(c)
      return w.map { row in zip(row, sum).reduce(0) { $0 + $1.0 * $1.1 } }
    }
    func combination(_ c: [Double]) -> [Double] {
      zip(c, w).reduce(into: [Double](repeating: 0, count: width)) { sum, part in
        for i in 0..<width { sum[i] += part.0 * part.1[i] }
      }
    }
    func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
    var c = [Double](repeating: 0, count: ids.count), residual = shifts, direction = shifts,
      size = dot(residual, residual)
    for _ in 0..<(2 * ids.count) where size > 1e-12 {
      let image = product(direction), step = size / max(1e-30, dot(direction, image))
      for i in c.indices {
        c[i] += step * direction[i]
        residual[i] -= step * image[i]
      }
      let next = dot(residual, residual)
      for i in c.indices { direction[i] = residual[i] + next / size * direction[i] }
      size = next
    }
    return combination(c).map(Float.init)
  }
}
