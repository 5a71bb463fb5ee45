import CKernels
import CLlama
import Foundation
import LadderCompute
import LadderCore

/// One pass over the whole vocabulary on the CPU, in tiles that stay in its cache, for many rows at once: rows ×
/// vocabulary is never held. Each tile's products come from a dense kernel; on the same threads each row then takes its
/// part of them into a running maximum and sum (online softmax: Milakov & Gimelshein 2018).
package final class VocabularyScan {
  private let head: Head
  private let graph: Graph
  /// Whether the head is multiplied as it is, for any number of rows.
  private let isQuantised: Bool
  private let packed: PackedHead?
  private let tasks: HostTasks
  private let panels: PanelScan?

  /// Rows of one pass at most: the tiles are dequantised once for all of them.
  package static let rowsAtOnce = 512
  /// From so many rows on it pays to dequantise a tile.
  private static let denseRows = 64
  /// The same where panels of rows are multiplied.
  private static let panelRows = 10
  private static let packedTile = 1024

  package init(_ head: Head, _ engine: Engine) throws {
    self.head = head
    tasks = try HostTasks(engine)
    isQuantised = engine.multipliesWell(frozen: head.weight)
    packed = isQuantised ? nil : PackedHead(head.weight, rows: Self.packedTile, engine)
    // ggml's packed kernels are the faster ones where they have 512-bit vectors.
    panels =
      engine.isCPU && !isQuantised && (packed == nil || PanelScan.rows < 32) ? try PanelScan(head, engine) : nil
    let entries = min(Self.packedTile, Self.tileEntries(width: head.width, rows: Self.rowsAtOnce))
    graph = try Graph(engine, nodes: 8 + 5 * (head.vocabulary / entries + 2))
  }

  /// Bytes of graphs and of the packed copy.
  package var bytes: Int { graph.workspace + (packed?.bytes ?? 0) + (panels?.bytes ?? 0) }

  /// What a head's pass works in at most, for `rows` rows, by shapes alone.
  package static func bytes(width: Int, vocabulary: Int, rows: Int) -> Int {
    let rows = min(rows, rowsAtOnce)
    let tile = tileEntries(width: width, rows: rows)
    return tile * (4 * rows + 6 * width) + 2 * width * rows + 28 * 512 * 1024
  }

  /// Whether the head gets a packed copy on most processors.
  package static func packs(bytes: Int, type: String, width: Int) -> Bool {
    bytes <= PackedHead.limit && ["Q4_0", "Q4_K", "Q2_K", "IQ4_NL"].contains(type)
      && !Engine.multipliesWell(type: type, inner: width)
  }

  /// ln Σ exp(logit) of each row, and its logits at the entries asked for, on the quantised head as it is: what the model
  /// itself gives.
  /// - Parameters:
  ///   - rows: the head's input, [width, all rows] F32.
  ///   - chunk: which of them, `rowsAtOnce` at most.
  ///   - wanted: of each of these the entries whose logits are asked for.
  package func judge(_ rows: Tensor, _ chunk: Range<Int>, wanted: [[Int32]]) throws -> [(
    logSumExp: Double, logits: [Float]
  )] {
    precondition(chunk.count == wanted.count)
    struct Row {
      var maximum = -Float.infinity
      var sum = 0.0
      /// Wanted ids, ascending, with where they were asked for.
      var places: [(id: Int32, place: Int)]
      var next = 0
      var logits: [Float]
    }
    var states = wanted.map { ids in
      Row(
        places: ids.enumerated().map { (id: $1, place: $0) }.sorted { $0.id < $1.id },
        logits: [Float](repeating: 0, count: ids.count))
    }
    try states.withUnsafeMutableBufferPointer { states in
      nonisolated(unsafe) let states = states
      try scan(rows, chunk, dense: false) { row, logits, first in
        guard let base = logits.baseAddress else { return }
        let most = ladder_row_maximum(base, Int32(logits.count))
        if most > states[row].maximum {
          states[row].sum *= Double(expf(states[row].maximum - most))
          states[row].maximum = most
        }
        states[row].sum += Double(ladder_row_sum(base, Int32(logits.count), states[row].maximum))
        while states[row].next < states[row].places.count {
          let (id, place) = states[row].places[states[row].next]
          guard Int(id) < first + logits.count else { break }
          states[row].logits[place] = base[Int(id) - first]
          states[row].next += 1
        }
      }
    }
    return states.map { (Double($0.maximum) + log($0.sum), $0.logits) }
  }

  /// Surveys rows for their gradient: see `RowSurvey`. Products are of the head as it is, where the processor has
  /// kernels for that; else, where there are rows enough, of the dequantised head in F32 or less.
  /// - Parameter seed: of what is drawn, with the rows' places.
  package func survey(_ rows: Tensor, _ chunk: Range<Int>, targets: [Int32], seed: UInt64) throws -> [RowSurvey] {
    precondition(chunk.count == targets.count)
    let width = rows[0]
    var isDense = !isQuantised && chunk.count >= (panels == nil ? Self.denseRows : Self.panelRows)
    // F16 ends at 65,504.
    rows.withHostBytes { bytes in
      let values = bytes.bindMemory(to: Float.self)[(chunk.lowerBound * width)..<(chunk.upperBound * width)]
      isDense = isDense && values.allSatisfy { abs($0) < 3e4 }
    }
    var surveys = zip(chunk, targets).map { row, target in
      RowSurvey(target: target, limit: RowSurvey.limit(rows: targets.count), random: SeededRandom(seed: seed, row))
    }
    try surveys.withUnsafeMutableBufferPointer { surveys in
      nonisolated(unsafe) let surveys = surveys
      if isDense, let panels {
        try panels.survey(rows, chunk, surveys)
      } else {
        try scan(rows, chunk, dense: isDense) { row, logits, first in surveys[row].take(logits, first: first) }
      }
      try tasks.run(surveys.count) { surveys[$0].finish() }
    }
    return surveys
  }

  /// Calls `take` with each row's logits of each tile, in order; one row in one thread at a time.
  private func scan(
    _ rows: Tensor, _ chunk: Range<Int>, dense: Bool,
    _ take: (_ row: Int, _ logits: UnsafeMutableBufferPointer<Float>, _ first: Int) -> Void
  ) throws {
    let count = chunk.count, vocabulary = head.vocabulary
    let entries = packed?.rows ?? Self.tileEntries(width: head.width, rows: count)
    let converts = dense && packed == nil && ggml_is_quantized(head.weight.pointer.pointee.type)
    // ggml sums products of F16 in F32, but on ARM in F16.
    #if arch(arm64)
      let type = ElementType.float32
    #else
      let type = ElementType.float16
    #endif
    try withoutActuallyEscaping(take) { take in
      graph.reset()
      let own = graph.slice(rows, 1, chunk)
      let input: FrozenInput =  // [width, n]
        converts
        ? .plain(graph.cast(own, type)) : packed == nil ? graph.input(own, for: head.weight) : .plain(own)
      for (index, start) in stride(from: 0, to: vocabulary, by: entries).enumerated() {
        let range = start..<min(start + entries, vocabulary)
        let plain = graph.slice(head.weight, 1, range)  // [width, entries]
        let weight = packed?.tiles[index] ?? (converts ? graph.cast(graph.cast(plain, .float32), type) : plain)
        let products = graph.matmul(frozen: weight, input)  // [entries, n]
        graph.host(after: [products]) { [head] thread, threads in
          guard let base = products.pointer.pointee.data?.assumingMemoryBound(to: Float.self) else { return }
          for row in stride(from: thread, to: count, by: threads) {
            let own = UnsafeMutableBufferPointer(start: base + row * range.count, count: range.count)
            head.curve(own)
            take(row, own, start)
          }
        }
      }
      try graph.compute()
      graph.reset()
    }
  }

  /// Vocabulary entries of a tile: its products and its dequantised weights take some 2 MB each.
  static func tileEntries(width: Int, rows: Int) -> Int {
    max(64, min(4096, (2 << 20) / (4 * max(rows, width))) / 64 * 64)
  }
}

extension Head {
  /// f of products in place.
  func curve(_ products: UnsafeMutableBufferPointer<Float>) {
    guard capped || outer != 1, let base = products.baseAddress else { return }
    ladder_row_curve(base, Int32(products.count), capped ? inner : 0, outer)
  }
}
