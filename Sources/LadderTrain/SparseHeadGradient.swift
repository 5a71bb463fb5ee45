import CLlama
import Foundation
import LadderBackbone
import LadderCompute

/// Wᵀ·g for a head W and coefficients g of which few are not zero: each row of W that any coefficient needs is dequantised once and
/// added to the rows of the gradient that it touches. Of a chunk's union of entries a single row needs some percent, so this is
/// many times less work than a dense product over the union. On the host alone.
struct SparseHeadGradient {
  /// What is known of a chunk of rows.
  struct Chunk {
    /// Softmax, row by row: rows × vocabulary.
    var probabilities: UnsafeMutablePointer<Float>
    var targets: [Int32]
    var targetLogits: [Float]
    var losses: [Float]
  }

  let head: Head
  let filter: Float
  let scale: Float
  let threads: Int

  /// Fills `gradient`, rows × width, with `scale` × (softmax − onehot)·f′·W over entries of `filter` or more, and the targets.
  func fill(_ gradient: UnsafeMutablePointer<Float>, _ chunk: Chunk) {
    let rows = chunk.targets.count, width = head.width, vocabulary = head.vocabulary, tasks = max(1, threads)
    let span = (vocabulary + tasks - 1) / tasks
    let parts = UnsafeMutablePointer<Float>.allocate(capacity: (tasks - 1) * rows * width + 1)
    defer { parts.deallocate() }
    head.weight.withHostBytes { bytes in
      // Each task owns a range of the vocabulary and a gradient of its own.
      nonisolated(unsafe) let weights = UnsafeRawPointer(bytes.baseAddress), gradient = gradient, parts = parts, chunk = chunk
      DispatchQueue.concurrentPerform(iterations: tasks) { task in
        let own = task == 0 ? gradient : parts + (task - 1) * rows * width
        own.update(repeating: 0, count: rows * width)
        if let weights { add(min(vocabulary, task * span)..<min(vocabulary, (task + 1) * span), weights, chunk, to: own) }
      }
      DispatchQueue.concurrentPerform(iterations: rows) { row in
        let target = gradient + row * width
        for task in 1..<max(1, tasks) {
          let part = parts + ((task - 1) * rows + row) * width
          for i in 0..<width { target[i] += part[i] }
        }
      }
    }
  }

  /// The part of the entries in `range`.
  private func add(_ range: Range<Int>, _ weights: UnsafeRawPointer, _ chunk: Chunk, to gradient: UnsafeMutablePointer<Float>) {
    let rows = chunk.targets.count, width = head.width, vocabulary = head.vocabulary
    // (entry, row) pairs row by row, then in the order of their entries: a counting sort.
    var pairs: [(entry: Int32, row: Int32)] = [], starts = [Int32](repeating: 0, count: range.count + 1)
    for row in 0..<rows {
      let p = chunk.probabilities + row * vocabulary, target = Int(chunk.targets[row])
      for v in range where p[v] >= filter || v == target {
        pairs.append((Int32(v - range.lowerBound), Int32(row)))
        starts[v - range.lowerBound + 1] += 1
      }
    }
    for i in 1..<starts.count { starts[i] += starts[i - 1] }
    var places = starts, ordered = [Int32](repeating: 0, count: pairs.count)
    for (entry, row) in pairs {
      ordered[Int(places[Int(entry)])] = row
      places[Int(entry)] += 1
    }
    let type = head.weight.pointer.pointee.type, stride = head.weight.stride(1)
    let convert = ggml_get_type_traits(type).pointee.to_float
    let values = UnsafeMutablePointer<Float>.allocate(capacity: width)
    defer { values.deallocate() }
    for entry in 0..<range.count where starts[entry] < starts[entry + 1] {
      let v = range.lowerBound + entry, source = weights + v * stride
      if let convert { convert(source, values, Int64(width)) } else { UnsafeMutableRawPointer(values).copyMemory(from: source, byteCount: 4 * width) }
      for place in Int(starts[entry])..<Int(starts[entry + 1]) {
        let row = Int(ordered[place]), target = gradient + row * width
        let g = coefficient(chunk.probabilities[row * vocabulary + v], v, row, chunk)
        for i in 0..<width { target[i] += g * values[i] }
      }
    }
  }

  /// scale × dloss/dz of one entry.
  private func coefficient(_ probability: Float, _ v: Int, _ row: Int, _ chunk: Chunk) -> Float {
    var g = probability - (v == Int(chunk.targets[row]) ? 1 : 0)
    // l_v = l_target + ln(p_v / p_target)
    if head.capped || head.outer != 1 {
      g *= head.slope(atLogit: chunk.targetLogits[row] + logf(max(probability, .leastNormalMagnitude)) + chunk.losses[row])
    }
    return g * scale
  }
}
