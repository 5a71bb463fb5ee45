import CLlama
import Foundation

/// Which of ggml's operations ran, and where: what an accelerator leaves to the processor shows here.
package final class OperationCensus: @unchecked Sendable {
  /// Whose graph an operation is in.
  package enum Part: String, Codable, Sendable, CaseIterable {
    /// The frozen model's.
    case model
    /// That of what is trained, and of the loss.
    case training
    /// The model's, behind the final norm, where nothing should run.
    case behindTheNorm = "behind the norm"
  }

  /// One operation on one kind of numbers.
  package struct Count: Codable, Sendable, Hashable {
    package var part: Part
    /// ggml's name with the types of its operands and its result: `MUL_MAT q4_K f32 → f32`.
    package var operation: String
    /// ggml's name of the device.
    package var device: String
    /// How often it ran.
    package var times: Int
  }

  private struct Key: Hashable {
    var part: Part
    var operation: String
    var device: String
  }

  private let lock = NSLock()
  private var times: [Key: Int] = [:]

  package init() {}

  /// Adds one run of an operation; what only names memory otherwise is none.
  package func add(_ node: UnsafeMutablePointer<ggml_tensor>, _ part: Part, device: String) {
    switch node.pointee.op {
    case GGML_OP_NONE, GGML_OP_VIEW, GGML_OP_RESHAPE, GGML_OP_PERMUTE, GGML_OP_TRANSPOSE: return
    default: break
    }
    let key = Key(part: part, operation: Self.description(node), device: device)
    lock.withLock { times[key, default: 0] += 1 }
  }

  /// An operation of a graph that llama.cpp runs: where its result lies is where it ran.
  package func add(_ node: UnsafeMutablePointer<ggml_tensor>, _ part: Part) {
    let buffer = node.pointee.buffer ?? node.pointee.view_src?.pointee.buffer
    let device = buffer.flatMap { ggml_backend_buft_get_device(ggml_backend_buffer_get_type($0)) }
    add(node, part, device: device.map { String(cString: ggml_backend_dev_name($0)) } ?? "CPU")
  }

  static func description(_ node: UnsafeMutablePointer<ggml_tensor>) -> String {
    func type(_ tensor: UnsafeMutablePointer<ggml_tensor>) -> String {
      String(cString: ggml_type_name(tensor.pointee.type))
    }
    let source = node.pointee.src
    let operands = [source.0, source.1].compactMap { $0.map(type) }
    return "\(String(cString: ggml_op_desc(node))) \(operands.joined(separator: " ")) → \(type(node))"
  }

  /// All of them: by part, then the most frequent first.
  package var counts: [Count] {
    let parts = Part.allCases
    return lock.withLock { times }
      .map { Count(part: $0.part, operation: $0.operation, device: $0.device, times: $1) }
      .sorted {
        (parts.firstIndex(of: $0.part) ?? 0, -$0.times, $0.operation, $0.device)
          < (parts.firstIndex(of: $1.part) ?? 0, -$1.times, $1.operation, $1.device)
      }
  }

  /// What a user of this accelerator should know, in a line; nil where all ran on it but for what is made to run on the
  /// processor: the model's embedding, which llama.cpp keeps there, and host code.
  package func note(device: String) -> String? {
    let counts = counts, all = counts.reduce(0) { $0 + $1.times }
    let elsewhere = counts.filter { count in
      let isMeantTo =
        count.operation.hasPrefix("CUSTOM") || (count.part == .model && count.operation.hasPrefix("GET_ROWS"))
      return count.device != device && !isMeantTo
    }
    if elsewhere.isEmpty { return nil }
    let names = elsewhere.prefix(6).map { "\($0.operation) (\($0.times))" }.joined(separator: ", ")
    return "\(elsewhere.reduce(0) { $0 + $1.times }) of a step's \(all) operations do not run on \(device): \(names)"
      + (elsewhere.count > 6 ? " and \(elsewhere.count - 6) kinds more" : "")
  }
}
