import Foundation
import LadderBackbone
import LadderCompute

/// Cross-entropy through the frozen, quantised head over its whole vocabulary, or for some rows over a few entries.
/// Rows × vocabulary is never held.
///
/// The gradient with respect to the head's input is Wᵀ·((p − y)·f′). On the CPU it comes from a survey of the
/// vocabulary (see `RowSurvey`), elsewhere, or where asked for, from dense operations alone. Losses without a gradient
/// are those of the engine's own kernels: what the model itself gives.
package final class CrossEntropy {
  private let backbone: Backbone
  private var head: Head { backbone.head }
  private let surveyed: SurveyedLoss?
  private let dense: DenseLoss?
  private let graph: Graph
  private let pool: TensorPool
  /// Of rows in another order.
  private let orders: TensorPool

  /// - Parameter dense: work every entry's part of the gradient, drawing none.
  package init(_ backbone: Backbone, dense: Bool = false) throws {
    self.backbone = backbone
    surveyed = backbone.engine.isCPU ? try SurveyedLoss(backbone) : nil
    self.dense = dense || !backbone.engine.isCPU ? try DenseLoss(backbone) : nil
    graph = try Graph(backbone.engine, nodes: 256)
    pool = TensorPool(backbone.engine)
    orders = TensorPool(backbone.engine)
  }

  package var bytes: Int {
    pool.capacity + orders.capacity + graph.workspace + (surveyed?.scan.bytes ?? 0) + (dense?.bytes ?? 0)
  }

  /// −ln p(target) of each row.
  /// - Parameters:
  ///   - rows: the head's input, [width, rows] F32.
  ///   - targets: one per row.
  ///   - rivals: of each row the entries that its softmax is over; none for the whole vocabulary, and empty for that in
  ///     all rows.
  ///   - gradient: [width, rows] F32, filled with `scale` × dΣloss/drows; nil where no gradient is asked for.
  ///   - seed: of what is drawn for the gradient.
  ///   - asInTraining: losses as they come with a gradient, where none is asked for.
  ///   - known: called with what a survey found of some of the rows.
  package func evaluate(
    _ rows: Tensor, targets: [Int32], rivals: [[Int32]] = [], gradient: Tensor? = nil, scale: Float = 1,
    seed: UInt64 = 0, asInTraining: Bool = false, known: ((Range<Int>, SurveyedLoss.Rows) throws -> Void)? = nil
  ) throws -> [Float] {
    precondition(rows[1] == targets.count && (rivals.isEmpty || rivals.count == targets.count))
    if zip(rivals, rivals.dropFirst()).count(where: { $0.isEmpty != $1.isEmpty }) > 1 {
      return try evaluateByKind(rows, targets, rivals, gradient, scale, seed, asInTraining: asInTraining)
    }
    var losses: [Float] = []
    while losses.count < targets.count {
      let start = losses.count
      let hasRivals = !rivals.isEmpty && !rivals[start].isEmpty
      let limit = min(
        targets.count, start + (hasRivals ? Self.rowsAmongRivals : rowsAtOnce(trains: gradient != nil || asInTraining)))
      let chunk =
        start..<(rivals.isEmpty ? limit : rivals[start..<limit].firstIndex { $0.isEmpty == hasRivals } ?? limit)
      losses +=
        hasRivals
        ? try evaluate(rows, chunk, Array(targets[chunk]), Array(rivals[chunk]), gradient, scale)
        : try evaluate(
          rows, chunk, Array(targets[chunk]), gradient, scale, seed, asInTraining: gradient != nil || asInTraining,
          known)
    }
    return losses
  }

  /// With the rows that have rivals before those that have none, so that each kind goes through the head at once.
  private func evaluateByKind(
    _ rows: Tensor, _ targets: [Int32], _ rivals: [[Int32]], _ gradient: Tensor?, _ scale: Float, _ seed: UInt64,
    asInTraining: Bool
  ) throws -> [Float] {
    let order = rivals.indices.filter { !rivals[$0].isEmpty } + rivals.indices.filter { rivals[$0].isEmpty }
    var places = order
    for (place, row) in order.enumerated() { places[row] = place }
    try orders.reset()
    let sorted = try orders.make(.float32, [rows[0], rows[1]])
    let slopes = try gradient.map { try orders.make(.float32, [$0[0], $0[1]]) }
    try copy(rows, order, to: sorted)
    let losses = try evaluate(
      sorted, targets: order.map { targets[$0] }, rivals: order.map { rivals[$0] }, gradient: slopes, scale: scale,
      seed: seed, asInTraining: asInTraining)
    if let gradient, let slopes { try copy(slopes, places, to: gradient) }
    return places.map { losses[$0] }
  }

  private func copy(_ rows: Tensor, _ places: [Int], to other: Tensor) throws {
    let ids = try orders.make(places.map { Int32($0) })
    graph.reset()
    graph.store(graph.rows(of: rows, ids), in: other)
    try graph.compute()
  }

  /// ln p of some entries of each row, over the whole vocabulary.
  package func logProbabilities(_ rows: Tensor, of wanted: [[Int32]]) throws -> [[Float]] {
    var result: [[Float]] = []
    while result.count < wanted.count {
      let chunk = result.count..<min(wanted.count, result.count + rowsAtOnce(trains: false))
      if let surveyed {
        result += try surveyed.scan.judge(rows, chunk, wanted: Array(wanted[chunk])).map { own in
          own.logits.map { Float(Double($0) - own.logSumExp) }
        }
      } else {
        result += try dense?.logProbabilities(rows, chunk, of: Array(wanted[chunk])) ?? []
      }
    }
    return result
  }

  private func rowsAtOnce(trains: Bool) -> Int {
    if let dense, trains || surveyed == nil { return dense.rowsAtOnce }
    return VocabularyScan.rowsAtOnce
  }

  private func evaluate(
    _ rows: Tensor, _ chunk: Range<Int>, _ targets: [Int32], _ gradient: Tensor?, _ scale: Float, _ seed: UInt64,
    asInTraining: Bool, _ report: ((Range<Int>, SurveyedLoss.Rows) throws -> Void)?
  ) throws -> [Float] {
    if let dense, asInTraining || surveyed == nil {
      return try dense.evaluate(rows, chunk, targets: targets, gradient: gradient, scale: scale, exact: asInTraining)
    }
    guard let surveyed else { return [] }
    let start = chunk.lowerBound * head.width, count = chunk.count * head.width
    let isFinite = rows.withHostBytes {
      $0.bindMemory(to: Float.self)[start..<(start + count)].allSatisfy(\.isFinite)
    }
    // What is no number has no survey.
    guard isFinite else { return targets.map { _ in .nan } }
    guard asInTraining else {
      return try surveyed.scan.judge(rows, chunk, wanted: targets.map { [$0] }).map {
        Float($0.logSumExp - Double($0.logits[0]))
      }
    }
    let known = try surveyed.rows(rows, chunk, targets: targets, seed: seed)
    try gradient?.withHostBytes { bytes in
      if let own = bytes.bindMemory(to: Float.self).baseAddress {
        try surveyed.fill(own + start, known, targets: targets, scale: scale)
      }
    }
    try report?(chunk, known)
    return known.losses
  }

  // MARK: - Among rivals

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
    var losses: [Float] = []
    var coefficients = [Float](repeating: 0, count: values.count)
    for (row, target) in targets.enumerated() {
      let own = rivals[row].map { (id: $0, place: row * ids.count + places[$0, default: 0]) }
      let most = own.map { values[$0.place] }.max() ?? 0
      let sum = own.reduce(Float(0)) { $0 + expf(values[$1.place] - most) }
      for (id, place) in own {
        let probability = expf(values[place] - most) / sum
        coefficients[place] = (probability - (id == target ? 1 : 0)) * head.slope(atLogit: values[place]) * scale
        if id == target { losses.append(most + logf(sum) - values[place]) }
      }
    }
    guard let gradient else { return losses }
    let slopes = try pool.make(coefficients, [ids.count, chunk.count])
    graph.reset()
    let columns = graph.transposed(graph.rows(of: head.weight, entries))  // [width, ids] → [ids, width]
    graph.store(graph.matmul(columns, gradient: slopes), in: graph.slice(gradient, 1, chunk))  // [width, n]
    try graph.compute()
    return losses
  }
}
