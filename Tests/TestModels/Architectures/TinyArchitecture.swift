import CLlama
import Foundation
import LadderCompute
import LadderCore
import LadderStudy

/// A tiny model of one of llama.cpp's architectures: its header is written here, and llama.cpp itself says which
/// tensors such a model has. Their values are random.
package struct TinyArchitecture: Sendable {
  /// What a model of the architecture does.
  package enum Sort: Sendable {
    /// The next token, from those before it.
    case decoder
    /// Something else: an encoder, a diffusion model, a part of another model. To be refused by name.
    case other
  }

  /// The architecture's name, with what sets this model apart from others of it.
  package var name: String
  package var architecture: String
  package var sort = Sort.decoder
  /// The header's keys behind the architecture's name.
  package var keys: [String: MetadataValue]
  /// Optional tensors that this model lacks: their names, or parts of them.
  package var lacks: [String] = []
  /// Queries, keys and values are products of one matrix.
  package var fusesAttention = false

  /// Takes the keys that all models get, those of the groups, then its own.
  package init(
    _ architecture: String, _ variant: String? = nil, _ groups: [KeyGroup] = [], _ keys: [String: MetadataValue] = [:],
    without: [String] = [], lacks: [String] = [], fusesAttention: Bool = false
  ) {
    name = variant.map { "\(architecture), \($0)" } ?? architecture
    self.architecture = architecture
    self.lacks = lacks
    self.fusesAttention = fusesAttention
    self.keys = KeyGroup.common.keys
    for group in groups { self.keys.merge(group.keys) { $1 } }
    self.keys.merge(keys) { $1 }
    for key in without { self.keys[key] = nil }
  }

  /// One that no decoder-only model has.
  package static func other(_ architecture: String) -> TinyArchitecture {
    var model = TinyArchitecture(architecture)
    model.sort = .other
    return model
  }

  // MARK: - Writing

  /// - Throws: `engine` with llama.cpp's reason where it makes no model of the header. It may abort the process instead.
  package func write(_ path: String, type: ggml_type = GGML_TYPE_F32, seed: UInt64 = 1) throws {
    guard let file = gguf_init_empty() else { throw LadderError(.engine, "no GGUF context") }
    defer { gguf_free(file) }
    gguf_set_val_str(file, "general.architecture", architecture)
    // Some tokenizers follow from a model's name.
    gguf_set_val_str(file, "general.name", "tiny")
    for (key, value) in keys.sorted(by: { $0.key < $1.key }) {
      value.write(file, key.hasPrefix("xielu.") ? key : "\(architecture).\(key)")
    }
    guard case .integer(let vocabulary)? = keys["vocab_size"] else { throw LadderError(.engine, "no vocabulary") }
    ByteTokenizer.write(file, vocabulary: Int(vocabulary))
    let tensors = try sort == .decoder ? tensors(file) : [Entry(name: "token_embd.weight", shape: [32, 320])]
    try write(tensors, type, seed, file, to: path)
  }

  private struct Entry {
    var name: String
    /// Fastest first.
    var shape: [Int64]
  }

  private final class Listing {
    var entries: [Entry] = []
  }

  /// The tensors that llama.cpp looks for in a model with this header.
  private func tensors(_ header: OpaquePointer) throws -> [Entry] {
    let listing = Listing()
    var parameters = llama_model_default_params()
    parameters.n_gpu_layers = 0
    var devices: [ggml_backend_dev_t?] = [nil]
    Log.install()
    Log.clearError()
    let model = devices.withUnsafeMutableBufferPointer { devices in
      parameters.devices = devices.baseAddress
      return llama_model_init_from_user(
        header,
        { tensor, data in
          guard let tensor, let data else { return }
          var shape = [tensor.pointee.ne.0, tensor.pointee.ne.1, tensor.pointee.ne.2, tensor.pointee.ne.3]
          while shape.count > 1, shape.last == 1 { shape.removeLast() }
          let listing = Unmanaged<Listing>.fromOpaque(data).takeUnretainedValue()
          listing.entries.append(Entry(name: String(cString: ggml_get_name(tensor)), shape: shape))
        }, Unmanaged.passUnretained(listing).toOpaque(), parameters)
    }
    guard let model else { throw LadderError(.engine, "llama.cpp makes no such model: \(Log.takeError())") }
    llama_model_free(model)
    var seen = Set<String>()
    let entries = listing.entries.filter { entry in
      seen.insert(entry.name).inserted && !entry.name.hasSuffix("scale")
        && !lacks.contains { $0.hasSuffix(".weight") ? entry.name == $0 : entry.name.contains($0) }
    }
    return fusesAttention ? fused(entries) : entries
  }

  /// One matrix in the place of each block's three.
  private func fused(_ entries: [Entry]) -> [Entry] {
    let rows = Dictionary(uniqueKeysWithValues: entries.map { ($0.name, $0.shape.last ?? 0) })
    return entries.compactMap { entry in
      let name = entry.name
      if name.hasSuffix("attn_k.weight") || name.hasSuffix("attn_v.weight") { return nil }
      guard name.hasSuffix("attn_q.weight") else { return entry }
      let block = name.dropLast("attn_q.weight".count)
      let all = ["attn_q", "attn_k", "attn_v"].reduce(0) { $0 + (rows["\(block)\($1).weight"] ?? 0) }
      return Entry(name: block + "attn_qkv.weight", shape: [entry.shape[0], all])
    }
  }

  private func write(
    _ tensors: [Entry], _ type: ggml_type, _ seed: UInt64, _ file: OpaquePointer, to path: String
  ) throws {
    let bytes = tensors.reduce(1 << 20) { $0 + 4 * Int($1.shape.reduce(1, *)) + 1024 }
    guard let context = ggml_init(ggml_init_params(mem_size: bytes, mem_buffer: nil, no_alloc: false)) else {
      throw LadderError(.engine, "no memory")
    }
    defer { ggml_free(context) }
    for (index, entry) in tensors.enumerated() {
      let columns = entry.shape[0], count = entry.shape.reduce(1, *)
      let isMatrix = entry.shape.count > 1 && columns % ggml_blck_size(type) == 0 && entry.name.isProjection
      guard
        let tensor = ggml_new_tensor(context, isMatrix ? type : GGML_TYPE_F32, Int32(entry.shape.count), entry.shape)
      else { continue }
      ggml_set_name(tensor, entry.name)
      var random = SeededRandom(seed: seed, index)
      let (mean, deviation) = entry.name.distribution(columns: Int(columns))
      let values = (0..<count).map { _ in mean + deviation * random.normal() }
      if isMatrix, type != GGML_TYPE_F32 {
        ggml_quantize_chunk(type, values, tensor.pointee.data, 0, count / columns, columns, nil)
      } else {
        values.withUnsafeBytes {
          if let base = $0.baseAddress { tensor.pointee.data.copyMemory(from: base, byteCount: $0.count) }
        }
      }
      gguf_add_tensor(file, tensor)
    }
    guard gguf_write_to_file(file, path, false) else { throw LadderError(.inputOutput, "cannot write \(path)") }
  }
}

extension String {
  /// Whether this names a matrix that models store quantised.
  fileprivate var isProjection: Bool {
    hasSuffix(".weight") && ["attn", "ffn", "token_embd", "output", "ssm_in", "ssm_out"].contains(where: contains)
      && !["norm", "gate_inp"].contains(where: contains)
  }

  /// Mean and deviation of the numbers of a tensor of this name, as real ones have them.
  fileprivate func distribution(columns: Int) -> (mean: Float, deviation: Float) {
    if contains("norm"), hasSuffix(".weight") { return (1, 0.1) }
    if hasSuffix(".bias") { return (0, 0.1) }
    if contains("scale") || contains("ssm_d") && !contains("ssm_dt") { return (1, 0.1) }
    // States decay.
    if contains("ssm_a"), !contains("ssm_alpha") { return (-1, 0.1) }
    if hasPrefix("rope_f") { return (2, 0.2) }
    if hasPrefix("token_embd") { return (0, 0.5) }
    return (0, (hasPrefix("output.") ? 4 : 1) / Float(columns).squareRoot())
  }
}
