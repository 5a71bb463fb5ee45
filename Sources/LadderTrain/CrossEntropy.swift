import Foundation
import LadderBackbone
import LadderCompute

/// Cross-entropy through the frozen, quantised head, in chunks of rows so that rows × vocabulary is never held.
///
/// The gradient with respect to the head's input is Wᵀ·(softmax − onehot). It is worked over the vocabulary entries that
/// matter: those whose softmax reaches `filter`, and the targets (Cut Cross-Entropy: Wijmans et al. 2024, §4.3). What is left out
/// of a row is at most Σ p_v‖W_v‖ over entries with p_v < `filter`. `filter` nil works over the whole vocabulary: exact.
package final class CrossEntropy {
  package static let defaultFilter: Float = 0x1p-12

  private let backbone: Backbone
  private var head: Head { backbone.head }
  package let filter: Float?
  private let graph: Graph
  private let pool: TensorPool
  private var marks: [Bool]
  /// Made at the first chunk that is large enough to gain by it.
  private var packed: PackedMatrix?
  private var triedPacking = false
  /// Dequantised rows of the head take at most this many bytes at once.
  private let blockBytes = 32 << 20

  package init(_ backbone: Backbone, filter: Float? = CrossEntropy.defaultFilter) throws {
    self.backbone = backbone
    self.filter = filter
    graph = try Graph(backbone.engine, nodes: 4096)
    pool = TensorPool(backbone.engine)
    marks = [Bool](repeating: false, count: backbone.vocabulary)
  }

  package var bytes: Int { pool.capacity + graph.workspace + (packed?.bytes ?? 0) }

  /// −ln p(target) of each row.
  /// - Parameters:
  ///   - rows: the head's input, [width, rows] F32.
  ///   - targets: one per row.
  ///   - rivals: of each row the entries that its softmax is over; none for the whole vocabulary, and empty for that in all rows.
  ///   - gradient: [width, rows] F32, filled with `scale` × dΣloss/drows; nil where no gradient is asked for.
  ///   - inspect: called with each row's index and its softmax over the whole vocabulary, in order.
  package func evaluate(
    _ rows: Tensor, targets: [Int32], rivals: [[Int32]] = [], gradient: Tensor? = nil, scale: Float = 1,
    inspect: ((Int, UnsafeBufferPointer<Float>) -> Void)? = nil
  ) throws -> [Float] {
    precondition(rows[1] == targets.count && (rivals.isEmpty || rivals.count == targets.count))
    var losses: [Float] = []
    while losses.count < targets.count {
      let start = losses.count, hasRivals = !rivals.isEmpty && !rivals[start].isEmpty
      let limit = min(targets.count, start + (hasRivals ? Self.rowsAmongRivals : head.chunkRows))
      let chunk = start..<(rivals.isEmpty ? limit : rivals[start..<limit].firstIndex { $0.isEmpty == hasRivals } ?? limit)
      losses +=
        hasRivals
        ? try evaluate(rows, chunk, Array(targets[chunk]), Array(rivals[chunk]), gradient, scale)
        : try evaluate(rows, chunk, Array(targets[chunk]), gradient, scale, inspect)
    }
    return losses
  }

  /// Rows whose rivals are taken together.
  private static let rowsAmongRivals = 256

  /// The same where each row's softmax is over a few entries: only their rows of the head are read.
  private func evaluate(
    _ rows: Tensor, _ chunk: Range<Int>, _ targets: [Int32], _ rivals: [[Int32]], _ gradient: Tensor?, _ scale: Float
  ) throws -> [Float] {
    var ids = Set(rivals.joined()).sorted()
    let places = Dictionary(uniqueKeysWithValues: ids.enumerated().map { ($1, $0) })
    // Rounded up to the kernels' step with an entry whose coefficients are zero.
    ids += repeatElement(ids[0], count: AttentionBlocks.rounded(ids.count) - ids.count)
    try pool.reset()
    let entries = try pool.make(ids)
    graph.reset()
    let logits = graph.keep(head.logits(graph, graph.slice(rows, 1, chunk), of: entries))  // [ids, n]
    try graph.compute()
    let values = logits.read()
    var losses: [Float] = [], coefficients = [Float](repeating: 0, count: values.count)
    for (row, target) in targets.enumerated() {
      let own = rivals[row].map { (id: $0, place: row * ids.count + places[$0, default: 0]) }
      let most = own.map { values[$0.place] }.max() ?? 0, sum = own.reduce(Float(0)) { $0 + expf(values[$1.place] - most) }
      for (id, place) in own {
        let probability = expf(values[place] - most) / sum
        coefficients[place] = (probability - (id == target ? 1 : 0)) * head.slope(atLogit: values[place]) * scale
        if id == target { losses.append(most + logf(sum) - values[place]) }
      }
    }
    if let gradient { try write([(ids, coefficients)], to: gradient, chunk) }
    return losses
  }

  private func evaluate(
    _ rows: Tensor, _ chunk: Range<Int>, _ targets: [Int32], _ gradient: Tensor?, _ scale: Float,
    _ inspect: ((Int, UnsafeBufferPointer<Float>) -> Void)?
  ) throws -> [Float] {
    let vocabulary = head.vocabulary, n = chunk.count
    try pool.reset()
    let flat = try pool.make(targets.enumerated().map { Int32($0 * vocabulary) + $1 })
    graph.reset()
    if n >= 16, !triedPacking {
      triedPacking = true
      if head.weight.bytes <= Head.packedLimit { packed = PackedMatrix(head.weight, backbone.engine) }
    }
    let logits = head.logits(graph, graph.slice(rows, 1, chunk), packed: packed)  // [vocabulary, n]
    let targetLogits = graph.keep(graph.rows(of: graph.reshape(logits, [1, vocabulary * n]), flat))  // [1, n]
    let softmax = graph.keep(graph.softmaxInPlace(logits))  // [vocabulary, n]
    try graph.compute()

    let logit = targetLogits.read()
    var losses = [Float](repeating: 0, count: n)
    var selected: [Int32] = []
    var parts: [(ids: [Int32], values: [Float])] = []
    softmax.withHostBytes { bytes in
      let p = bytes.bindMemory(to: Float.self)
      for row in 0..<n { losses[row] = -logf(max(p[row * vocabulary + Int(targets[row])], .leastNormalMagnitude)) }
      if let inspect {
        for row in 0..<n { inspect(chunk.lowerBound + row, UnsafeBufferPointer(rebasing: p[(row * vocabulary)..<((row + 1) * vocabulary)])) }
      }
      guard let gradient else { return }
      if let filter, backbone.engine.isCPU {
        let sparse = SparseHeadGradient(head: head, filter: filter, scale: scale, threads: backbone.engine.threads)
        gradient.withHostBytes(4 * head.width * chunk.lowerBound, count: 4 * head.width * n) { target in
          guard let own = target.bindMemory(to: Float.self).baseAddress, let p = p.baseAddress else { return }
          sparse.fill(own, .init(probabilities: p, targets: targets, targetLogits: logit, losses: losses))
        }
        return
      }
      selected = select(p, n, targets)
      let perBlock = max(32, blockBytes / (4 * head.width))
      for start in stride(from: 0, to: selected.count, by: perBlock) {
        var ids = Array(selected[start..<min(start + perBlock, selected.count)])
        // Rounded up to the kernels' step with an entry whose coefficients are zero.
        let real = ids.count
        ids += repeatElement(ids[0], count: AttentionBlocks.rounded(real) - real)
        parts.append((ids, coefficients(p, n, ids, real, targets, logit, losses, scale)))
      }
    }
    if let gradient, !parts.isEmpty { try write(parts, to: gradient, chunk) }
    // −ln of a probability below the smallest normal Float says nothing: such rows go through their logits.
    if let most = losses.max(), most > 87 {
      let exact = try lossesFromLogits(rows, chunk, targets)
      for row in 0..<n where losses[row] > 87 { losses[row] = exact[row] }
    }
    return losses
  }

  /// ln Σ exp(l) − l_target in double precision.
  private func lossesFromLogits(_ rows: Tensor, _ chunk: Range<Int>, _ targets: [Int32]) throws -> [Float] {
    graph.reset()
    let logits = graph.keep(head.logits(graph, graph.slice(rows, 1, chunk)))
    try graph.compute()
    return logits.withHostBytes { bytes in
      let l = bytes.bindMemory(to: Float.self)
      return targets.enumerated().map { row, target in
        let own = l[(row * head.vocabulary)..<((row + 1) * head.vocabulary)]
        let most = Double(own.max() ?? 0)
        let sum = own.reduce(0.0) { $0 + exp(Double($1) - most) }
        return Float(most + log(sum) - Double(own[own.startIndex + Int(target)]))
      }
    }
  }

  /// The vocabulary entries that the gradient is worked over, ascending.
  private func select(_ p: UnsafeMutableBufferPointer<Float>, _ n: Int, _ targets: [Int32]) -> [Int32] {
    let vocabulary = head.vocabulary
    guard let filter else { return (0..<Int32(vocabulary)).map { $0 } }
    return marks.withUnsafeMutableBufferPointer { marks in
      nonisolated(unsafe) let marks = marks, p = p
      // Each task owns a range of the vocabulary, so no two write one mark.
      let tasks = 8, span = (vocabulary + tasks - 1) / tasks
      DispatchQueue.concurrentPerform(iterations: tasks) { task in
        let range = (task * span)..<max(task * span, min(vocabulary, (task + 1) * span))
        for row in 0..<n {
          let base = row * vocabulary
          for v in range where p[base + v] >= filter { marks[v] = true }
        }
      }
      for target in targets { marks[Int(target)] = true }
      var selected: [Int32] = []
      for v in 0..<vocabulary where marks[v] {
        selected.append(Int32(v))
        marks[v] = false
      }
      return selected
    }
  }

  /// dloss/dz at the chosen entries, [ids, n], fastest first.
  private func coefficients(
    _ p: UnsafeMutableBufferPointer<Float>, _ n: Int, _ ids: [Int32], _ real: Int, _ targets: [Int32], _ logit: [Float], _ losses: [Float], _ scale: Float
  ) -> [Float] {
    let vocabulary = head.vocabulary
    return [Float](unsafeUninitializedCapacity: ids.count * n) { values, filled in
      for row in 0..<n {
        let base = row * vocabulary
        for i in real..<ids.count { values[row * ids.count + i] = 0 }
        for (i, id) in ids[..<real].enumerated() {
          let probability = p[base + Int(id)]
          var g = probability - (id == targets[row] ? 1 : 0)
          if head.capped || head.outer != 1 {
            // l_v = l_target + ln(p_v / p_target)
            g *= head.slope(atLogit: logit[row] + logf(max(probability, .leastNormalMagnitude)) + losses[row])
          }
          values[row * ids.count + i] = g * scale
        }
      }
      filled = ids.count * n
    }
  }

  private func write(_ parts: [(ids: [Int32], values: [Float])], to gradient: Tensor, _ chunk: Range<Int>) throws {
    let target = gradient
    for (index, part) in parts.enumerated() {
      try pool.reset()
      let ids = try pool.make(part.ids), g = try pool.make(part.values, [part.ids.count, chunk.count])
      graph.reset()
      let columns = graph.transposed(graph.rows(of: head.weight, ids))  // [width, ids] → [ids, width]
      let piece = graph.matmul(columns, g)  // [width, n]
      let slice = graph.slice(target, 1, chunk)
      if index == 0 { graph.store(piece, in: slice) } else { _ = graph.addInPlace(slice, piece) }
      try graph.compute()
    }
  }
}
