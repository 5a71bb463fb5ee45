import CKernels
import LadderCompute

/// Some entries of the vocabulary for each of several rows, one row after another.
package struct EntryLists: Sendable {
  /// Where each row's entries begin, and one past the last.
  package private(set) var starts = [0]
  package private(set) var ids: [Int32] = []

  package init() {}

  package init(_ lists: [[Int32]]) {
    self.init()
    for list in lists { append(list) }
  }

  package var rows: Int { starts.count - 1 }

  package mutating func append(_ list: some Sequence<Int32>) {
    ids.append(contentsOf: list)
    starts.append(ids.count)
  }

  /// The places of a row's entries.
  package subscript(row: Int) -> Range<Int> { starts[row]..<starts[row + 1] }
}

/// Products with few entries of the head for each row, and their transpose: each entry that any row of a block needs is
/// dequantised once, and worked in F32. On the CPU alone.
package final class SparseHead {
  private let head: Head
  private let tasks: HostTasks
  private let threads: Int
  /// The fewest rows whose entries are gone over together.
  private static let blockRows = 16

  package init(_ head: Head, _ engine: Engine) throws {
    self.head = head
    tasks = try HostTasks(engine)
    threads = engine.threads
  }

  /// W·x of each row's entries, without the head's curve. Shapes: rows [width, n] F32 → a number for each of `lists`'
  /// ids.
  package func products(_ rows: UnsafePointer<Float>, _ lists: EntryLists) throws -> [Float] {
    let width = head.width
    var result = [Float](repeating: 0, count: lists.ids.count)
    try result.withUnsafeMutableBufferPointer { result in
      nonisolated(unsafe) let result = result
      try forEachEntry(lists) { entry, row, place in
        result[place] = ladder_dot(entry, rows + row * width, Int32(width))
      }
    }
    return result
  }

  /// Adds Wᵀ·c over each row's entries. Shapes: coefficients, one for each of `lists`' ids; target [width, n] F32.
  package func combine(_ coefficients: [Float], _ lists: EntryLists, into target: UnsafeMutablePointer<Float>) throws {
    let width = head.width
    try coefficients.withUnsafeBufferPointer { coefficients in
      nonisolated(unsafe) let coefficients = coefficients
      try forEachEntry(lists) { entry, row, place in
        if coefficients[place] != 0 {
          ladder_add_scaled(coefficients[place], entry, target + row * width, Int32(width))
        }
      }
    }
  }

  /// Calls `body` with each dequantised entry, its row and its place in `lists`; rows of one block in one thread, in
  /// the order of the entries' ids.
  private func forEachEntry(
    _ lists: EntryLists, _ body: (_ entry: UnsafePointer<Float>, _ row: Int, _ place: Int) -> Void
  ) throws {
    let width = head.width
    let blockRows = max(Self.blockRows, (lists.rows + threads - 1) / threads)
    let blocks = (lists.rows + blockRows - 1) / blockRows
    try head.weight.withHostBytes { bytes in
      guard let weights = UnsafeRawPointer(bytes.baseAddress).map({ HeadRows(head, $0) }) else { return }
      try tasks.run(blocks) { block in
        let entries = UnsafeMutablePointer<Float>.allocate(capacity: width)
        defer { entries.deallocate() }
        var current: Int32 = -1
        Self.forEachPair(lists, (block * blockRows)..<min(lists.rows, (block + 1) * blockRows), head.vocabulary) {
          id, row, place in
          if id != current {
            current = id
            weights.read(Int(id), into: entries)
          }
          body(entries, row, place)
        }
      }
    }
  }

  /// Goes over (id, row, place) of a block's rows by ascending id: a counting sort.
  private static func forEachPair(
    _ lists: EntryLists, _ rows: Range<Int>, _ vocabulary: Int, _ body: (Int32, Int, Int) -> Void
  ) {
    let first = lists.starts[rows.lowerBound]
    let count = lists.starts[rows.upperBound] - first
    guard count > 0 else { return }
    lists.ids.withUnsafeBufferPointer { ids in
      withUnsafeTemporaryAllocation(of: UInt32.self, capacity: vocabulary + 1) { next in
        next.initialize(repeating: 0)
        for place in first..<(first + count) { next[Int(ids[place]) + 1] += 1 }
        for id in 1...vocabulary { next[id] += next[id - 1] }
        withUnsafeTemporaryAllocation(of: (row: UInt32, place: UInt32).self, capacity: count) { pairs in
          for row in rows {
            for place in lists[row] {
              let id = Int(ids[place])
              pairs[Int(next[id])] = (UInt32(row), UInt32(place))
              next[id] += 1
            }
          }
          for pair in pairs { body(ids[Int(pair.place)], Int(pair.row), Int(pair.place)) }
        }
      }
    }
  }
}
