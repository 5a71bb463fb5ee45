import Foundation
import LadderBackbone
import LadderCompute

/// The cross-entropy of rows and its gradient from a survey of the vocabulary: the sum over all entries from dense
/// products, then the logits of the entries that count worked again in F32, and Wᵀ·(p − y) over those and the drawn
/// ones (see `RowSurvey`).
package struct SurveyedLoss {
  /// What is known of the rows once their losses are.
  package struct Rows {
    /// Of each row the entries that its gradient is worked over, ascending.
    package var lists = EntryLists()
    /// Their logits: exact, or of a drawn entry as the survey has it.
    package var logits: [Float] = []
    /// The share of the row's softmax that each stands for; over a row they add up to one.
    package var probabilities: [Float] = []
    package var losses: [Float] = []
    /// ln Σ exp(logit) over the whole vocabulary.
    package var logSumExps: [Double] = []
  }

  let head: Head
  let scan: VocabularyScan
  let sparse: SparseHead
  let tasks: HostTasks

  package init(_ backbone: Backbone) throws {
    head = backbone.head
    scan = try VocabularyScan(head, backbone.engine)
    sparse = try SparseHead(head, backbone.engine)
    tasks = try HostTasks(backbone.engine)
  }

  /// - Parameters:
  ///   - rows: the head's input, [width, all rows] F32.
  ///   - chunk: which of them, at most `VocabularyScan.rowsAtOnce`.
  ///   - seed: of what is drawn.
  package func rows(_ rows: Tensor, _ chunk: Range<Int>, targets: [Int32], seed: UInt64 = 0) throws -> Rows {
    let count = targets.count
    let surveys = try scan.survey(rows, chunk, targets: targets, seed: seed)
    var result = Rows()
    result.lists = EntryLists(surveys.map { $0.entries.map(\.id) })
    let exact = EntryLists(surveys.map { $0.entries.lazy.filter { !$0.isDrawn }.map(\.id) })
    let products = try rows.withHostBytes { bytes in
      try bytes.bindMemory(to: Float.self).baseAddress.map {
        try sparse.products($0 + chunk.lowerBound * head.width, exact)
      } ?? []
    }
    result.logits = [Float](repeating: 0, count: result.lists.ids.count)
    result.probabilities = result.logits
    result.losses = [Float](repeating: 0, count: count)
    result.logSumExps = [Double](repeating: 0, count: count)
    let lists = result.lists
    try result.logits.withUnsafeMutableBufferPointer { logits in
      try result.probabilities.withUnsafeMutableBufferPointer { probabilities in
        try result.losses.withUnsafeMutableBufferPointer { losses in
          try result.logSumExps.withUnsafeMutableBufferPointer { sums in
            nonisolated(unsafe) let logits = logits
            nonisolated(unsafe) let probabilities = probabilities
            nonisolated(unsafe) let losses = losses
            nonisolated(unsafe) let sums = sums
            try tasks.run(count) { row in
              let places = lists[row]
              let own = surveys[row]
              let logSumExp = settle(
                own, products[exact[row]], UnsafeMutableBufferPointer(rebasing: logits[places]),
                UnsafeMutableBufferPointer(rebasing: probabilities[places]))
              sums[row] = logSumExp
              for (place, entry) in zip(places, own.entries) where entry.id == own.target {
                losses[row] = Float(logSumExp - Double(logits[place]))
              }
            }
          }
        }
      }
    }
    return result
  }

  /// Fills one row's logits and shares; hands back ln Σ exp(logit).
  private func settle(
    _ survey: RowSurvey, _ products: ArraySlice<Float>, _ logits: UnsafeMutableBufferPointer<Float>,
    _ shares: UnsafeMutableBufferPointer<Float>
  ) -> Double {
    let most = survey.maximum
    // Mass of the entries that count, as the survey saw it and as it is; and of what was drawn.
    var surveyed = 0.0
    var sum = 0.0
    var drawn = 0.0
    var next = products.startIndex
    for (place, entry) in survey.entries.enumerated() {
      if entry.isDrawn {
        logits[place] = entry.logit
        shares[place] = expf(entry.weight - most)
        drawn += Double(shares[place])
      } else {
        logits[place] = Float(head.logit(atProduct: Double(products[next])))
        next += 1
        shares[place] = expf(logits[place] - most)
        surveyed += Double(expf(entry.logit - most))
        sum += Double(shares[place])
      }
    }
    let rest = max(0, survey.sum - surveyed)
    sum += rest
    let scaled = drawn > 0 ? rest / drawn : 0
    for (place, entry) in survey.entries.enumerated() {
      shares[place] = Float(Double(shares[place]) * (entry.isDrawn ? scaled : 1) / sum)
    }
    return Double(most) + log(sum)
  }

  /// Writes scale × dΣloss/drows. Shapes: gradient [width, n] F32.
  package func fill(_ gradient: UnsafeMutablePointer<Float>, _ rows: Rows, targets: [Int32], scale: Float) throws {
    gradient.update(repeating: 0, count: head.width * targets.count)
    var coefficients = rows.probabilities
    for (row, target) in targets.enumerated() {
      for place in rows.lists[row] {
        if rows.lists.ids[place] == target { coefficients[place] -= 1 }
        coefficients[place] *= head.slope(atLogit: rows.logits[place]) * scale
      }
    }
    try sparse.combine(coefficients, rows.lists, into: gradient)
  }
}
