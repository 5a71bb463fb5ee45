import Foundation
import LadderBackbone
import LadderCompute

/// The cross-entropy of rows that have a reference: over the common entries, the row's own likeliest and one for the
/// rest, a few hundred in place of the whole vocabulary. On the CPU.
package final class CachedHead {
  package let references: HeadReferences
  private let head: Head
  private let sparse: SparseHead
  private let tasks: HostTasks
  private let graph: Graph
  private let pool: TensorPool
  private let weights: TensorPool
  /// The common entries' rows of the head, [width, common], and transposed.
  private let common: Tensor
  private let columns: Tensor
  /// Where each common entry is among them.
  private let places: [Int32: Int]

  package init(_ backbone: Backbone, _ references: HeadReferences) throws {
    self.references = references
    places = Dictionary(uniqueKeysWithValues: references.common.enumerated().map { ($1, $0) })
    head = backbone.head
    let engine = backbone.engine
    sparse = try SparseHead(head, engine)
    tasks = try HostTasks(engine)
    graph = try Graph(engine, nodes: 64)
    pool = TensorPool(engine, tensors: 8)
    weights = TensorPool(engine, tensors: 8)
    // Rounded up to the kernels' step; what is too many is left out of every sum.
    let ids = references.common
    let padded = ids + repeatElement(ids[0], count: AttentionBlocks.rounded(ids.count) - ids.count)
    common = try weights.make(.float32, [head.width, padded.count])
    columns = try weights.make(.float32, [padded.count, head.width])
    let places = try pool.make(padded)
    let rows = graph.store(graph.rows(of: head.weight, places), in: common)
    graph.store(graph.transposed(rows), in: columns)
    try graph.compute()
  }

  package var bytes: Int { graph.workspace + pool.capacity + weights.capacity }

  /// Logits of the common entries, [common, n] row by row, `stride` apart.
  private func commonLogits(_ rows: Tensor, _ chunk: Range<Int>) throws -> (values: [Float], stride: Int) {
    graph.reset()
    let logits = graph.keep(head.curve(graph, graph.matmul(common, graph.slice(rows, 1, chunk))))
    try graph.compute()
    return (logits.read(), common[1])
  }

  // MARK: - Taking references

  /// References of rows that were just worked exactly.
  /// - Parameters:
  ///   - rows: the head's input, [width, all rows] F32, and which of them the known ones are.
  func take(_ rows: Tensor, _ chunk: Range<Int>, _ known: SurveyedLoss.Rows, targets: [Int32]) throws -> [RowReference]
  {
    let width = head.width, count = chunk.count
    let logits = try commonLogits(rows, chunk)
    var ids: [[Int32]] = []
    var masses: [Double] = []
    var rest = EntryLists()
    var coefficients: [Float] = []
    for row in 0..<count {
      let base = known.logSumExps[row]
      var mass = 1.0
      for i in references.common.indices { mass -= exp(Double(logits.values[row * logits.stride + i]) - base) }
      // An entry is the row's own where its logit is exact: what was drawn stands for others too.
      func share(_ place: Int) -> Double { exp(Double(known.logits[place]) - base) }
      let own = known.lists[row].filter { places[known.lists.ids[$0]] == nil }
      let likeliest = own.filter { Double(known.probabilities[$0]) <= 1.001 * share($0) }.sorted {
        known.logits[$0] > known.logits[$1]
      }
      var taken: Set<Int32> = []
      for place in likeliest {
        let id = known.lists.ids[place]
        let isTarget = id == targets[row]
        guard isTarget || (taken.count < HeadReferences.limit && mass > Double(HeadReferences.rest)) else { continue }
        taken.insert(id)
        mass -= share(place)
      }
      let others = own.filter { !taken.contains(known.lists.ids[$0]) && known.probabilities[$0] > 0 }
      let sum = others.reduce(0.0) { $0 + Double(known.probabilities[$1]) }
      rest.append(others.lazy.map { known.lists.ids[$0] })
      for place in others {
        coefficients.append(Float(Double(known.probabilities[place]) / sum) * head.slope(atLogit: known.logits[place]))
      }
      ids.append(taken.sorted())
      masses.append(max(1e-9, mass))
    }
    var means = [Float](repeating: 0, count: count * width)
    try means.withUnsafeMutableBufferPointer {
      if let base = $0.baseAddress { try sparse.combine(coefficients, rest, into: base) }
    }
    return rows.withHostBytes { bytes in
      let inputs = bytes.bindMemory(to: Float.self)
      return (0..<count).map { row in
        let weights = means[(row * width)..<((row + 1) * width)].map(BFloat16.rounded)
        var product = 0.0
        for (channel, weight) in weights.enumerated() {
          product += Double(BFloat16.wide(weight)) * Double(inputs[(chunk.lowerBound + row) * width + channel])
        }
        return RowReference(
          weights: weights, bias: Float(known.logSumExps[row] + log(masses[row]) - product), ids: ids[row])
      }
    }
  }

  // MARK: - Using them

  /// −ln p(target) of each row. Shapes: rows [width, n] F32; gradient the same, filled with `scale` × dΣloss/drows.
  func evaluate(_ rows: Tensor, _ known: [RowReference], targets: [Int32], gradient: Tensor, scale: Float) throws
    -> [Float]
  {
    let width = head.width, count = targets.count
    let lists = EntryLists(known.map(\.ids))
    var losses = [Float](repeating: 0, count: count)
    var rest = losses
    var coefficients = [Float](repeating: 0, count: lists.ids.count)
    var (values, stride) = try commonLogits(rows, 0..<count)
    try rows.withHostBytes { bytes in
      guard let inputs = bytes.bindMemory(to: Float.self).baseAddress else { return }
      let products = try sparse.products(inputs, lists)
      try values.withUnsafeMutableBufferPointer { values in
        try coefficients.withUnsafeMutableBufferPointer { own in
          try losses.withUnsafeMutableBufferPointer { losses in
            try rest.withUnsafeMutableBufferPointer { rest in
              nonisolated(unsafe) let values = values
              nonisolated(unsafe) let own = own
              nonisolated(unsafe) let losses = losses
              nonisolated(unsafe) let rest = rest
              try tasks.run(count) { row in
                let range = lists[row]
                for place in range { own[place] = Float(head.logit(atProduct: Double(products[place]))) }
                (losses[row], rest[row]) = self.slopes(
                  UnsafeMutableBufferPointer(rebasing: values[(row * stride)..<((row + 1) * stride)]),
                  UnsafeMutableBufferPointer(rebasing: own[range]), ids: lists.ids[range],
                  restLogit: known[row].bias + BFloat16.dot(known[row].weights, inputs + row * width),
                  target: targets[row], scale: scale)
              }
            }
          }
        }
      }
    }
    try pool.reset()
    let slopes = try pool.make(values, [stride, count])
    graph.reset()
    graph.store(graph.matmul(columns, gradient: slopes), in: gradient)  // [width, n]
    try graph.compute()
    try gradient.withHostBytes { bytes in
      guard let target = bytes.bindMemory(to: Float.self).baseAddress else { return }
      try sparse.combine(coefficients, lists, into: target)
      try tasks.run(count) { row in BFloat16.add(rest[row], known[row].weights, to: target + row * width) }
    }
    return losses
  }

  /// Turns a row's logits into `scale` × dloss/dlogit, where they lie; returns the loss and the rest's slope.
  /// - Parameters:
  ///   - shared: the logits of the entries that all rows have, zeros to be behind them.
  ///   - own: those of the row's own entries, `ids`.
  private func slopes(
    _ shared: UnsafeMutableBufferPointer<Float>, _ own: UnsafeMutableBufferPointer<Float>, ids: ArraySlice<Int32>,
    restLogit: Float, target: Int32, scale: Float
  ) -> (loss: Float, rest: Float) {
    let entries = references.common.count
    let most = max(restLogit, shared.prefix(entries).max() ?? restLogit, own.max() ?? restLogit)
    var sum = Double(expf(restLogit - most))
    for entry in 0..<entries { sum += Double(expf(shared[entry] - most)) }
    for logit in own { sum += Double(expf(logit - most)) }
    let logSumExp = Double(most) + log(sum)
    var loss: Float = 0
    func slope(_ logit: Float, _ isTarget: Bool) -> Float {
      if isTarget { loss = Float(logSumExp - Double(logit)) }
      return (Float(exp(Double(logit) - logSumExp)) - (isTarget ? 1 : 0)) * head.slope(atLogit: logit) * scale
    }
    let common = places[target]
    for entry in 0..<entries { shared[entry] = slope(shared[entry], entry == common) }
    for entry in entries..<shared.count { shared[entry] = 0 }
    for (place, id) in zip(own.indices, ids) { own[place] = slope(own[place], id == target) }
    // The rest's weight row has its slopes in it.
    return (loss, Float(exp(Double(restLogit) - logSumExp)) * scale)
  }
}

/// BF16 numbers on the host.
enum BFloat16 {
  /// Rounded to nearest, ties to even.
  static func rounded(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
  }

  static func wide(_ value: UInt16) -> Float { Float(bitPattern: UInt32(value) << 16) }

  static func dot(_ numbers: [UInt16], _ others: UnsafePointer<Float>) -> Float {
    var sum: Float = 0
    for i in numbers.indices { sum += wide(numbers[i]) * others[i] }
    return sum
  }

  static func add(_ factor: Float, _ numbers: [UInt16], to target: UnsafeMutablePointer<Float>) {
    for i in numbers.indices { target[i] += factor * wide(numbers[i]) }
  }
}
