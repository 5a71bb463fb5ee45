import CLlama
import Foundation
import LadderBackbone
import LadderCore

/// A model's tensors with random weights, as the data of a GGUF.
struct RandomTensors {
  struct Entry {
    var name: String
    /// ggml's order, fastest first.
    var shape: [Int]
    var type: ggml_type
    /// Standard deviation of a matrix's numbers; a vector has this value throughout.
    var scale: Float

    var columns: Int { shape[0] }
    var rows: Int { shape.dropFirst().reduce(1, *) }
    var isMatrix: Bool { shape.count > 1 }
  }

  let entries: [Entry]
  let seed: UInt64

  /// Adds the tensors to a GGUF and writes it.
  /// - Parameters:
  ///   - file: its `gguf_context`, with the metadata.
  ///   - headerOnly: leave the tensors' data out.
  /// - Throws: `inputOutput` where the file cannot be written.
  func write(_ file: OpaquePointer, to path: String, headerOnly: Bool = false) throws {
    try GGUFFile.add(entries.map { ($0.name, $0.type, $0.shape) }, to: file)
    guard gguf_write_to_file(file, path, true), let handle = FileHandle(forWritingAtPath: path) else {
      throw LadderError(.inputOutput, "cannot write \(path): \(String(cString: strerror(errno)))")
    }
    defer { try? handle.close() }
    if headerOnly { return }
    do {
      try handle.seekToEnd()
      for (index, entry) in entries.enumerated() { try write(entry, index, to: handle) }
    } catch {
      try? FileManager.default.removeItem(atPath: path)
      if let error = error as? LadderError { throw error }
      throw LadderError(.inputOutput, "cannot write \(path): the disk may be full")
    }
  }

  /// One block of rows is drawn and written again and again: drawing billions of numbers would take longer than
  /// measuring.
  private func write(_ entry: Entry, _ index: Int, to handle: FileHandle) throws {
    let rowBytes = ggml_row_size(entry.type, Int64(entry.columns))
    var written = 0
    if entry.isMatrix {
      var random = SeededRandom(seed: seed, index)
      // Types that have to know what matters are slow to make.
      let asksWhatMatters = ggml_quantize_requires_imatrix(entry.type)
      let drawn = min(entry.rows, asksWhatMatters ? 8 : 128)
      let values = (0..<(drawn * entry.columns)).map { _ in random.normal() * entry.scale }
      let importance = asksWhatMatters ? [Float](repeating: 1, count: entry.columns) : nil
      var block = [UInt8](repeating: 0, count: drawn * rowBytes)
      block.withUnsafeMutableBytes {
        _ = ggml_quantize_chunk(
          entry.type, values, $0.baseAddress, 0, Int64(drawn), Int64(entry.columns), importance)
      }
      for start in stride(from: 0, to: entry.rows, by: drawn) {
        try Cancellation.check()
        let rows = min(drawn, entry.rows - start)
        try handle.write(contentsOf: block.prefix(rows * rowBytes))
        written += rows * rowBytes
      }
    } else {
      let values = [Float](repeating: entry.scale, count: entry.columns)
      try handle.write(contentsOf: values.withUnsafeBytes { Data($0) })
      written = rowBytes
    }
    let alignment = 32
    try handle.write(contentsOf: Data(repeating: 0, count: (alignment - written % alignment) % alignment))
  }
}
