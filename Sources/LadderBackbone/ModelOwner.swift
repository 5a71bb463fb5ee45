import CLlama
import Foundation
import LadderCore

/// Frees the model with its last user, and gives back the memory of blocks that none of its users runs.
final class ModelOwner: @unchecked Sendable {
  let model: OpaquePointer
  private let lock = NSLock()
  /// Weights in the processor's own memory, each with its block, counted from 0.
  private var weights: [(block: Int, bytes: UnsafeRawBufferPointer)] = []
  /// How many blocks, from the first, each user runs.
  private var users: [Int] = []
  /// The blocks that are still there, from the first.
  private var held = Int.max

  init(_ model: OpaquePointer) { self.model = model }
  deinit { llama_model_free(model) }

  /// - Parameter weights: weights in the processor's own memory, each with its block.
  func know(_ weights: [(block: Int, bytes: UnsafeRawBufferPointer)]) { lock.withLock { self.weights = weights } }

  /// A user that runs this many blocks, or all: false where they are not there any more.
  func join(blocks: Int) -> Bool {
    lock.withLock {
      guard blocks <= held else { return false }
      users.append(blocks)
      return true
    }
  }

  func leave(blocks: Int) {
    lock.withLock { if let place = users.firstIndex(of: blocks) { users.remove(at: place) } }
  }

  /// Whether all blocks are there.
  var isWhole: Bool { lock.withLock { held == .max } }

  /// Gives back the memory of the blocks behind those that users run: the model cannot run them from here on.
  func trim() {
    #if os(Linux)
      lock.withLock {
        // Where a device has them there is nothing to give back, and they stay.
        guard let most = users.max(), most < held, weights.contains(where: { (most..<held).contains($0.block) }) else {
          return
        }
        // Whole pages alone: what shares one with a block that stays, stays.
        for weight in weights where (most..<held).contains(weight.block) { ProcessMemory.release(weight.bytes) }
        held = most
      }
    #endif
  }
}
