import CLlama
import Foundation

/// The names that an architecture's graph gives to what is read off it.
package struct GraphNames: Equatable {
  /// What block N, counted from 0, hands on is named `blockPrefix` with the number N + `blockShift` behind it.
  var blockPrefix: String
  var blockShift: Int
  /// What the output head multiplies: its own name, or where it has none that of the weight that it was made with.
  var final: String
  var finalIsOfWeight = false
  /// What the first block reads, the embedding, is named so; nil where it has no name of its own.
  var embedding: String?

  func isFinal(_ node: UnsafeMutablePointer<ggml_tensor>, _ name: UnsafePointer<CChar>) -> Bool {
    guard finalIsOfWeight else { return strcmp(name, final) == 0 }
    guard node.pointee.op == GGML_OP_MUL, let weight = node.pointee.src.1.flatMap({ ggml_get_name($0) }) else {
      return false
    }
    return strcmp(weight, final) == 0 || Self.copied(String(cString: weight)) == final
  }

  /// The name of which a tensor of this name is another device's copy; nil where it is none. ggml calls copies
  /// `DEVICE#NAME#0`.
  static func copied(_ name: String) -> String? {
    let parts = name.split(separator: "#", omittingEmptySubsequences: false)
    return parts.count > 2 && Int(parts[parts.count - 1]) != nil
      ? parts[1..<(parts.count - 1)].joined(separator: "#") : nil
  }

  /// The block, counted from 0, that hands this on, −1 for the embedding; nil for any other node, and for views of what
  /// it hands on.
  func block(_ name: UnsafePointer<CChar>) -> Int? {
    if let embedding, strcmp(name, embedding) == 0 { return -1 }
    guard strncmp(name, blockPrefix, blockPrefix.utf8.count) == 0 else { return nil }
    return Self.number(name + blockPrefix.utf8.count).map { $0 - blockShift }
  }

  /// The block, counted from 0, of a weight's name: of `blk.N.…`, N.
  package static func block(ofWeight name: String) -> Int? {
    name.hasPrefix("blk.") ? name.dropFirst(4).split(separator: ".").first.flatMap { Int($0) } : nil
  }

  private static func number(_ text: UnsafePointer<CChar>) -> Int? {
    var end: UnsafeMutablePointer<CChar>?
    let value = strtol(text, &end, 10)
    return end.map { $0 != UnsafeMutablePointer(mutating: text) && $0.pointee == 0 } ?? false ? value : nil
  }

  /// A name's part before its number, and the number.
  static func split(_ name: String) -> (prefix: String, number: Int)? {
    guard let dash = name.lastIndex(of: "-"), let number = Int(name[name.index(after: dash)...]) else { return nil }
    return (String(name[...dash]), number)
  }
}

/// Finds in a graph, node by node in the order in which they run, what each block hands on: `l_out-N` where the graph
/// names it so, else by structure.
///
/// By structure it is the hidden state, as wide as the model, that the next block's first norm or matrix reads. Where
/// blocks hand on several streams of residuals it is what the next block mixes of them.
final class BlockOutputSearch {
  private let width: Int
  private let tokens: Int
  private var named: [Int: String] = [:]
  private var read: [Int: String] = [:]
  /// The blocks' weights, each with its block counted from 0.
  private(set) var weights: [UnsafeMutablePointer<ggml_tensor>: Int] = [:]
  /// The nodes seen, by name.
  private var nodes: [String: UnsafeMutablePointer<ggml_tensor>] = [:]

  init(width: Int, tokens: Int) {
    self.width = width
    self.tokens = tokens
  }

  /// Takes a node in, before or after it is computed.
  func see(_ node: UnsafeMutablePointer<ggml_tensor>) {
    let name = Self.name(node)
    nodes[name] = node
    for source in sources(node) { if let block = Self.weightBlock(source) { weights[source] = block } }
    if name.hasPrefix("l_out-"), isState(node), let block = GraphNames.split(name)?.number { named[block] = name }
    guard let block = weightsBlock(of: node), read[block - 1] == nil else { return }
    // A node without a name of its own cannot be found again.
    read[block - 1] = sources(node).lazy.filter { Self.weightBlock($0) == nil }
      .compactMap { self.origin($0, block) }.map(Self.name).first {
        block == 0 ? !$0.isEmpty && !$0.hasPrefix("node_") : GraphNames.split($0) != nil
      }
  }

  /// The name of what the first block reads; nil where it has none of its own.
  var embedding: String? { read[-1] }

  /// The node of which this is another device's copy; else itself.
  func original(_ tensor: UnsafeMutablePointer<ggml_tensor>) -> UnsafeMutablePointer<ggml_tensor> {
    guard Self.isLeaf(tensor) else { return tensor }
    return GraphNames.copied(Self.name(tensor)).flatMap { nodes[$0] } ?? tensor
  }

  /// The names' prefix and shift for the blocks 0 up to `count`; nil where some are not found, or have no common name.
  func names(blocks count: Int) -> (prefix: String, shift: Int)? {
    Self.common(named, count) ?? structure(blocks: count)
  }

  /// The same by structure alone.
  func structure(blocks count: Int) -> (prefix: String, shift: Int)? { Self.common(read, count) }

  private static func common(_ names: [Int: String], _ count: Int) -> (prefix: String, shift: Int)? {
    let parts = (0..<count).map { block in
      names[block].flatMap(GraphNames.split).map { (prefix: $0.prefix, shift: $0.number - block) }
    }
    guard let first = parts.first ?? nil, parts.allSatisfy({ $0.map { $0 == first } ?? false }) else { return nil }
    return first
  }

  /// The hidden state that a block's own norms and scales were worked from; nil where that is none.
  private func origin(_ start: UnsafeMutablePointer<ggml_tensor>, _ block: Int) -> UnsafeMutablePointer<ggml_tensor>? {
    var node = start
    while let source = sources(node).first(where: { Self.weightBlock($0) == nil && !Self.isLeaf($0) }) {
      let isOwn = weightsBlock(of: node) == block
      let isShape = [GGML_OP_VIEW, GGML_OP_RESHAPE, GGML_OP_CONT].contains(node.pointee.op)
      let isNorm = [GGML_OP_NORM, GGML_OP_RMS_NORM].contains(node.pointee.op)
      guard isOwn || isNorm || isShape, isState(source) || !isState(node) else { break }
      node = source
    }
    return isState(node) && weightsBlock(of: node) != block ? node : nil
  }

  private func isState(_ tensor: UnsafeMutablePointer<ggml_tensor>) -> Bool {
    tensor.pointee.type == GGML_TYPE_F32 && tensor.pointee.ne.0 == width
      && ggml_nelements(tensor) == Int64(width * tokens)
  }

  private static func name(_ tensor: UnsafeMutablePointer<ggml_tensor>) -> String {
    ggml_get_name(tensor).map { String(cString: $0) } ?? ""
  }

  private static func isLeaf(_ tensor: UnsafeMutablePointer<ggml_tensor>) -> Bool { tensor.pointee.op == GGML_OP_NONE }

  private func sources(_ node: UnsafeMutablePointer<ggml_tensor>) -> [UnsafeMutablePointer<ggml_tensor>] {
    withUnsafeBytes(of: &node.pointee.src) { bytes in
      Array(bytes.bindMemory(to: UnsafeMutablePointer<ggml_tensor>?.self)).compactMap { $0 }
    }.map(original)
  }

  /// The block whose weight this is.
  private static func weightBlock(_ tensor: UnsafeMutablePointer<ggml_tensor>) -> Int? {
    guard isLeaf(tensor) else { return nil }
    let own = name(tensor)
    return GraphNames.block(ofWeight: GraphNames.copied(own) ?? own)
  }

  /// The block whose weight this node uses.
  private func weightsBlock(of node: UnsafeMutablePointer<ggml_tensor>) -> Int? {
    sources(node).lazy.compactMap(Self.weightBlock).first
  }
}
