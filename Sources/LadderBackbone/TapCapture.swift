import CKernels
import CLlama
import Foundation
import LadderCompute
import LadderCore

/// What the engine's callback writes to. It runs on the thread that calls `llama_decode`.
final class TapCapture {
  private let rungOfBlock: [Int: Int]
  private var taps: [Tensor] = []
  private var final: Tensor?
  private var tokenRow = 0
  private var finalRow = 0
  private var seen: Set<Int> = []
  private var normRows = 0
  private let expected: Int
  /// Which of a call's output rows are handed out as final rows; nil is all of them.
  private var picks: [Int]?
  private let stopsAtNorm: Bool
  private let stopsAtLastTap: Bool
  private var names: GraphNames
  /// Copies within an accelerator's memory.
  private let copies: Graph?
  private var failure: (any Error)?
  /// Whether the final norm was handed out in this call.
  private var isPastNorm = false
  /// Where the model's operations are counted.
  var census: OperationCensus?

  /// What takes the model's products over.
  private let products: EngineProducts?

  init(
    rungs: [Int], names: GraphNames, stopsAtNorm: Bool, stopsAtLastTap: Bool, copies: Graph?, products: EngineProducts?
  ) {
    self.products = products
    self.names = names
    if !rungs.contains(0) { self.names.embedding = nil }
    self.stopsAtNorm = stopsAtNorm
    self.stopsAtLastTap = stopsAtLastTap
    self.copies = copies
    rungOfBlock = Dictionary(uniqueKeysWithValues: rungs.enumerated().map { ($1 - 1, $0) })
    expected = rungs.count
  }

  func begin(taps: [Tensor], final: Tensor?) {
    self.taps = taps
    self.final = final
    tokenRow = 0
    finalRow = 0
    startCall()
  }

  private func startCall() {
    seen = []
    normRows = 0
    isPastNorm = false
  }

  /// Before a call in which more rows are put out than are handed out.
  func expect(_ picks: [Int]) { self.picks = picks }

  func finishCall(tokens: Int, outputs: Int) throws {
    if let failure {
      self.failure = nil
      throw failure
    }
    guard seen.count == expected, final == nil || normRows == outputs else {
      throw LadderError(
        .engine, "the engine handed out \(seen.count) of \(expected) taps and \(normRows) of \(outputs) final rows")
    }
    tokenRow += tokens
    finalRow += picks?.count ?? outputs
    picks = nil
    startCall()
  }

  private func rung(_ name: UnsafePointer<CChar>) -> Int? {
    names.block(name).flatMap { rungOfBlock[$0] }
  }

  func wants(_ tensor: UnsafeMutablePointer<ggml_tensor>) -> Bool {
    products?.take(tensor)
    census?.add(tensor, isPastNorm ? .behindTheNorm : .model)
    let name = ggml_get_name(tensor)
    guard let name else { return false }
    return (stopsAtNorm && names.isFinal(tensor, name)) || rung(name) != nil
  }

  /// Copies a computed tensor out; false at the final norm, so that the head is not run.
  func take(_ tensor: UnsafeMutablePointer<ggml_tensor>) -> Bool {
    guard let name = ggml_get_name(tensor) else { return true }
    let width = Int(tensor.pointee.ne.0), rows = Int(tensor.pointee.ne.1)
    let count = width * rows
    if let index = rung(name) {
      // A block that is gone through again hands on what it gave last.
      seen.insert(index)
      let goesOn = !stopsAtLastTap || seen.count < expected
      guard index < taps.count, count > 0 else { return goesOn }
      guard fits(rows, after: tokenRow, in: taps[index], width, name) else { return false }
      if copyOnDevice(tensor, to: taps[index], tokenRow..<(tokenRow + rows)) { return goesOn }
      copyOnHost(tensor, to: taps[index], count, at: width * tokenRow)
      return goesOn
    }
    normRows = rows
    isPastNorm = true
    if let picks { return takePicked(tensor, picks, width, name) }
    if let final, count > 0 {
      guard fits(rows, after: finalRow, in: final, width, name) else { return false }
    }
    if let final, count > 0, !copyOnDevice(tensor, to: final, finalRow..<(finalRow + rows)) {
      Tensor(tensor).withHostBytes {
        final.write(
          bytes: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer($0)[..<(4 * count)]), at: 4 * width * finalRow)
      }
    }
    return false
  }

  /// Copies the rows that are wanted among all that were put out.
  private func takePicked(
    _ tensor: UnsafeMutablePointer<ggml_tensor>, _ picks: [Int], _ width: Int, _ name: UnsafePointer<CChar>
  ) -> Bool {
    guard let final, fits(picks.count, after: finalRow, in: final, width, name) else { return false }
    Tensor(tensor).withHostBytes { source in
      for (place, row) in picks.enumerated() {
        final.write(
          bytes: UnsafeRawBufferPointer(
            rebasing: UnsafeRawBufferPointer(source)[(4 * width * row)..<(4 * width * (row + 1))]),
          at: 4 * width * (finalRow + place))
      }
    }
    return false
  }

  /// From the engine's memory straight into the tap's, rounded on the way to BF16, where the host addresses both.
  private func copyOnHost(_ tensor: UnsafeMutablePointer<ggml_tensor>, to tap: Tensor, _ count: Int, at start: Int) {
    Tensor(tensor).withHostBytes { source in
      guard tap.isBFloat16 else {
        return tap.write(
          bytes: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(source)[..<(4 * count)]), at: 4 * start)
      }
      tap.withHostBytes(2 * start, count: 2 * count) { target in
        ladder_to_bf16(
          source.baseAddress?.assumingMemoryBound(to: Float.self),
          target.baseAddress?.assumingMemoryBound(to: UInt16.self), count)
      }
    }
  }

  /// Whether the tensor has room for so many rows; a graph whose nodes have other shapes is not gone on with.
  private func fits(
    _ rows: Int, after start: Int, in target: Tensor, _ width: Int, _ name: UnsafePointer<CChar>
  ) -> Bool {
    if width == target[0], start + rows <= target[1] { return true }
    failure = LadderError(.engine, "the engine handed out \(rows) rows of \(width) numbers as \(String(cString: name))")
    return false
  }

  /// Copies a result of the engine to some rows of a tensor without the host; false where one of them is in the host's
  /// memory.
  private func copyOnDevice(_ tensor: UnsafeMutablePointer<ggml_tensor>, to target: Tensor, _ rows: Range<Int>) -> Bool
  {
    guard let copies, !Tensor(tensor).isOnHost, !target.isOnHost else { return false }
    copies.reset()
    copies.store(copies.leaf(Tensor(tensor)), in: copies.slice(target, 1, rows))
    do { try copies.compute() } catch { failure = error }
    return true
  }
}
