import CKernels
import LadderCompute

/// A survey of the vocabulary with products in F32, or with operands in BF16 where the processor has instructions for
/// them, for processors that have panel kernels: each tile of the head is dequantised once, multiplied by panels of rows
/// that lie channel by channel, and gone over while its logits are in the cache.
final class PanelScan {
  /// Rows of one panel; 0 on a processor without the kernels.
  static let rows = Int(ladder_panel_rows())

  private let head: Head
  private let graph: Graph
  private let tile: Int
  /// Operands are rounded, and two stand in the place of one.
  private let rounds: Bool
  private var panels = Scratch()
  private var weights = Scratch()
  /// Of each panel [tile][panel rows], one after another: neighbours that are scanned together lie together.
  private var logits = Scratch()

  /// Nil on a processor without the kernels.
  init?(_ head: Head, _ engine: Engine) throws {
    guard Self.rows > 0 else { return nil }
    self.head = head
    rounds = ladder_multiplies_bf16() != 0 && head.width % 2 == 0
    tile = VocabularyScan.tileEntries(width: head.width, rows: VocabularyScan.rowsAtOnce)
    graph = try Graph(engine, nodes: 8 + 2 * (head.vocabulary / tile + 2))
  }

  var bytes: Int { graph.workspace + panels.bytes + weights.bytes + logits.bytes }

  /// Takes a chunk's rows over the whole vocabulary.
  func survey(_ rows: Tensor, _ chunk: Range<Int>, _ surveys: UnsafeMutableBufferPointer<RowSurvey>) throws {
    let width = head.width
    let wide = Self.rows
    let count = (chunk.count + wide - 1) / wide
    let panels = panels.reserve(count * wide * width)
    let weights = weights.reserve(tile * width)
    let logits = logits.reserve(tile * count * wide)
    try rows.withHostBytes { rows in
      try head.weight.withHostBytes { head in
        guard let inputs = rows.bindMemory(to: Float.self).baseAddress,
          let quantised = UnsafeRawPointer(head.baseAddress)
        else { return }
        let source = HeadRows(self.head, quantised)
        graph.reset()
        graph.host(after: []) { [self] thread, threads in
          for panel in stride(from: thread, to: count, by: threads) {
            let first = panel * wide
            pack(
              inputs + (chunk.lowerBound + first) * width, Int32(min(wide, chunk.count - first)), panels + first * width
            )
          }
        }
        // With few panels each thread multiplies the entries that it dequantised by all of them.
        let fewPanels = count < 2 * graph.engine.threads
        for first in stride(from: 0, to: self.head.vocabulary, by: tile) {
          let entries = min(tile, self.head.vocabulary - first)
          graph.host(after: []) { [self] thread, threads in
            let own = (entries * thread / threads)..<(entries * (thread + 1) / threads)
            read(source, first, own, into: weights)
            if fewPanels { multiply(weights, own, panels, 0..<count, into: logits) }
          }
          graph.host(after: []) { [self] thread, threads in
            let own = (count * thread / threads)..<(count * (thread + 1) / threads)
            if !fewPanels { multiply(weights, 0..<entries, panels, own, into: logits) }
            for panel in own { survey(logits + panel * tile * wide, entries, first, panel, surveys) }
          }
        }
        try graph.compute()
        graph.reset()
      }
    }
  }

  private func pack(_ rows: UnsafePointer<Float>, _ count: Int32, _ panel: UnsafeMutablePointer<Float>) {
    if rounds {
      panel.withMemoryRebound(to: UInt32.self, capacity: Self.rows * head.width / 2) {
        ladder_panel_pack_bf16(rows, count, Int32(head.width), $0)
      }
    } else {
      ladder_panel_pack(rows, count, Int32(head.width), panel)
    }
  }

  /// Dequantises some entries of the tile that begins with `first`.
  private func read(
    _ source: HeadRows, _ first: Int, _ own: Range<Int>, into weights: UnsafeMutablePointer<Float>
  ) {
    let width = head.width
    guard rounds else {
      for entry in own { source.read(first + entry, into: weights + entry * width) }
      return
    }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: width) { row in
      guard let row = row.baseAddress else { return }
      for entry in own {
        source.read(first + entry, into: row)
        (weights + entry * width / 2).withMemoryRebound(to: UInt16.self, capacity: width) {
          ladder_to_bf16(row, $0, width)
        }
      }
    }
  }

  /// Products of a tile with some panels; some entries at a time, which stay in the second-level cache while the panels
  /// go by.
  private func multiply(
    _ weights: UnsafePointer<Float>, _ entries: Range<Int>, _ panels: UnsafePointer<Float>, _ own: Range<Int>,
    into logits: UnsafeMutablePointer<Float>
  ) {
    let width = head.width
    let wide = Self.rows
    let group = max(12, (192 << 10) / (4 * width) / 12 * 12)
    for first in stride(from: entries.lowerBound, to: entries.upperBound, by: group) {
      let count = Int32(min(group, entries.upperBound - first))
      for panel in own {
        let rows = panels + panel * wide * width, out = logits + (panel * tile + first) * wide
        if rounds {
          ladder_panel_products_bf16(
            UnsafeRawPointer(weights + first * width / 2).assumingMemoryBound(to: UInt16.self), count, Int32(width),
            UnsafeRawPointer(rows).assumingMemoryBound(to: UInt32.self), out, wide)
        } else {
          ladder_panel_products(weights + first * width, count, Int32(width), rows, out, wide)
        }
      }
    }
  }

  private func survey(
    _ logits: UnsafeMutablePointer<Float>, _ entries: Int, _ first: Int, _ panel: Int,
    _ surveys: UnsafeMutableBufferPointer<RowSurvey>
  ) {
    let wide = Self.rows
    let base = panel * wide
    let count = min(wide, surveys.count - base)
    if head.capped || head.outer != 1 {
      ladder_panel_curve(logits, Int32(entries), wide, head.capped ? head.inner : 0, head.outer)
    }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: wide * (3 + entries / RowSurvey.group + 1)) { scratch in
      guard let maxima = scratch.baseAddress else { return }
      let totals = maxima + wide, sums = totals + wide
      ladder_panel_maxima(logits, Int32(entries), wide, maxima)
      for i in 0..<count {
        surveys[base + i].raise(to: maxima[i])
        maxima[i] = surveys[base + i].maximum
      }
      ladder_panel_sums(logits, Int32(entries), wide, maxima, sums, totals)
      for i in 0..<count {
        surveys[base + i].take(
          first: first, count: entries, logits: logits + i, stride: wide, sums: sums + i, sumStride: wide,
          total: totals[i])
      }
    }
  }
}

/// Memory of a loop, kept for its next pass.
private struct Scratch {
  private var memory: Owner?

  private final class Owner {
    let bytes: Int
    let pointer: UnsafeMutableRawPointer
    init(_ bytes: Int) {
      self.bytes = bytes
      pointer = .allocate(byteCount: bytes, alignment: 64)
    }
    deinit { pointer.deallocate() }
  }

  var bytes: Int { memory?.bytes ?? 0 }

  /// Room for so many numbers, with undefined contents.
  mutating func reserve(_ count: Int) -> UnsafeMutablePointer<Float> {
    let owner = memory.flatMap { $0.bytes >= 4 * count ? $0 : nil } ?? Owner(4 * count)
    memory = owner
    return owner.pointer.assumingMemoryBound(to: Float.self)
  }
}
