import CLlama
import Foundation
import LadderCompute
import LadderCore

/// The header of a model in GGUF: its metadata and its table of tensors, without the tensors' data.
package struct GGUFFile: Sendable {
  package struct TensorInfo: Sendable {
    package let name: String
    /// ggml's order, fastest first.
    package let shape: [Int]
    /// ggml's name of the element type: `F32`, `Q4_K`.
    package let type: String
    /// The file that holds it.
    package let path: String
    /// Bytes from the start of that file.
    package let offset: Int
    package let bytes: Int
    package let ggmlType: ggml_type
  }

  package enum Value: Sendable, CustomStringConvertible {
    case string(String)
    case integer(Int)
    case number(Double)
    case flag(Bool)
    /// The largest is that of a list of 32-bit integers: blocks may differ in their sizes.
    case array(type: String, count: Int, largest: Int? = nil)

    package var description: String {
      switch self {
      case .string(let value): value
      case .integer(let value): String(value)
      case .number(let value): String(value)
      case .flag(let value): String(value)
      case .array(let type, let count, _): "[\(type)] × \(count)"
      }
    }
  }

  /// The file; of a model in several, the first.
  package let path: String
  /// The model's files: those of one that llama.cpp's gguf-split took apart, in their order.
  package let parts: [String]
  /// Of all its files.
  package let bytes: Int
  package let version: Int
  package let metadata: [String: Value]
  package let tensors: [TensorInfo]
  let headers: [GGUFHeader]

  /// Reads the header; of a model in several files the headers of all, whichever of them `path` is.
  /// - Throws: `missing` where there is no file, or one of several is not there; `data` where one is no GGUF, is cut
  ///   short, or its header is broken.
  package init(path: String) throws { try self.init(path: path, headerOnly: false) }

  /// - Parameter headerOnly: accept a file whose tensors' data is not there.
  package init(path: String, headerOnly: Bool) throws {
    headers = try SplitModel.headers(from: path, headerOnly: headerOnly)
    let first = headers[0]
    self.path = first.path
    parts = headers.map(\.path)
    bytes = headers.reduce(0) { $0 + $1.bytes }
    version = first.version
    metadata = first.metadata.mapValues(\.value)
    tensors = headers.flatMap(\.tensors)
  }

  // MARK: - Metadata

  package var architecture: String { string("general.architecture") ?? "unknown" }
  package var name: String? { string("general.name") }

  package func string(_ key: String) -> String? { if case .string(let value)? = metadata[key] { value } else { nil } }
  package func integer(_ key: String) -> Int? { if case .integer(let value)? = metadata[key] { value } else { nil } }
  package func flag(_ key: String) -> Bool? { if case .flag(let value)? = metadata[key] { value } else { nil } }

  /// A value under the architecture's own prefix: `block_count`, `embedding_length`; the largest where there is one for
  /// each block.
  package func own(_ key: String) -> Int? {
    switch metadata["\(architecture).\(key)"] {
    case .integer(let value)?: value
    case .array(_, _, let largest)?: largest
    default: nil
    }
  }

  /// A size under the architecture's own prefix; nil where there is none.
  /// - Throws: `data` where no model can have it.
  package func size(_ key: String, atLeast least: Int = 1) throws -> Int? {
    guard let value = own(key) else { return nil }
    guard (least...1 << 24).contains(value) else {
      throw LadderError(.data, "\(path): the header says \(architecture).\(key) is \(value); convert the model again")
    }
    return value
  }

  /// Blocks that predict the next token: those that predict tokens after it come behind them.
  /// - Throws: `data` where no model can have so many.
  package func blocks() throws -> Int? {
    guard let all = try size("block_count") else { return nil }
    return max(1, all - (try size("nextn_predict_layers", atLeast: 0) ?? 0))
  }

  /// What the models of architectures are that predict no next token, or not on their own.
  private static let undecodable: [String: String] = {
    let names = [
      "an encoder or embedding model": [
        "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "neo-bert", "modern-bert", "eurobert",
        "t5encoder", "clip", "gemma-embedding", "llama-embed",
      ],
      "an encoder and decoder in one": ["t5"],
      "a diffusion model": ["dream", "llada", "llada-moe", "rnd1"],
      "an architecture that llama.cpp names and does not run": ["gptj"],
      "a drafter for another model": ["eagle3", "dflash", "gemma4-assistant"],
      "a speech model": ["wavtokenizer-dec", "qwen3tts", "pockettts"],
    ]
    return Dictionary(uniqueKeysWithValues: names.flatMap { what, names in names.map { ($0, what) } })
  }()

  /// Says why this file cannot be a backbone, before llama.cpp loads it.
  package func requireDecoder(embeds: Bool = false) throws {
    let type = string("general.type") ?? "model"
    if type != "model" {
      throw LadderError(.data, "\(path) is a GGUF of type \(type), not a model; pass the base model itself")
    }
    if let what = Self.undecodable[architecture] {
      throw LadderError(.data, "\(path) is \(what) (\(architecture)); Ladder needs a decoder-only language model")
    }
    let pools = metadata["\(architecture).pooling_type"] != nil
    if flag("\(architecture).attention.causal") == false || pools && !embeds {
      throw LadderError(
        .data, "\(path) is an encoder or embedding model (\(architecture)); Ladder needs a decoder-only language model")
    }
    if headers[0].repeatsTokens, string("tokenizer.ggml.model") != "hybriddna" {
      throw LadderError(.data, "\(path) has a token twice in its vocabulary; convert the model again")
    }
    if tensors.isEmpty { throw LadderError(.data, "\(path) holds no tensors (a vocabulary file?); pass a whole model") }
  }

  // MARK: - Data

  /// The dequantised values of a tensor: shape[0] × shape[1] × … numbers, fastest dimension first.
  package func values(of tensor: TensorInfo) throws -> [Float] {
    let handle = try Self.open(tensor.path)
    defer { try? handle.close() }
    try handle.seek(toOffset: UInt64(tensor.offset))
    let data = try handle.read(upToCount: tensor.bytes) ?? Data()
    guard data.count == tensor.bytes else {
      throw LadderError(.inputOutput, "\(tensor.path): could not read \(tensor.name)")
    }
    let count = tensor.shape.reduce(1, *)
    return try [Float](unsafeUninitializedCapacity: count) { buffer, filled in
      try data.withUnsafeBytes { bytes in
        if tensor.ggmlType == GGML_TYPE_F32 {
          UnsafeMutableRawBufferPointer(buffer).copyMemory(from: bytes)
        } else if let convert = ggml_get_type_traits(tensor.ggmlType).pointee.to_float {
          convert(bytes.baseAddress, buffer.baseAddress, Int64(count))
        } else {
          throw LadderError(
            .data, "\(tensor.path): \(tensor.name) has type \(tensor.type), which cannot be dequantised")
        }
      }
      filled = count
    }
  }

  /// Reads a tensor into an engine's memory, quantised as it is.
  package func load(_ info: TensorInfo, into pool: TensorPool) throws -> Tensor {
    let tensor = try pool.make(ggmlType: info.ggmlType, info.shape)
    ggml_set_name(tensor.pointer, info.name)
    let handle = try Self.open(info.path)
    defer { try? handle.close() }
    try handle.seek(toOffset: UInt64(info.offset))
    var offset = 0
    while offset < info.bytes {
      guard let part = try handle.read(upToCount: min(16 << 20, info.bytes - offset)), !part.isEmpty else {
        throw LadderError(.inputOutput, "\(info.path): could not read \(info.name)")
      }
      part.withUnsafeBytes { tensor.write(bytes: $0, at: offset) }
      offset += part.count
    }
    return tensor
  }

  /// A `gguf_context` with this model's metadata, for another file to be written: of one part, its tensors as ggml puts
  /// them. Whoever asks frees it.
  /// - Throws: `data` where the file cannot be read.
  package func copiedMetadata() throws -> OpaquePointer {
    let plain = gguf_init_params(no_alloc: true, ctx: nil)
    guard let source = gguf_init_from_file(path, plain), let file = gguf_init_empty() else {
      throw LadderError(.data, "\(path) cannot be read")
    }
    defer { gguf_free(source) }
    gguf_set_kv(file, source)
    for key in ["split.no", "split.count", "split.tensors.count", "general.alignment"] { gguf_remove_key(file, key) }
    return file
  }

  /// Adds to a `gguf_context` what its table of tensors says of these, without their data.
  /// - Parameter tensors: shapes in ggml's order, fastest first.
  package static func add(_ tensors: [(name: String, type: ggml_type, shape: [Int])], to file: OpaquePointer) throws {
    let overhead = ggml_tensor_overhead() * (tensors.count + 1)
    guard let context = ggml_init(ggml_init_params(mem_size: overhead, mem_buffer: nil, no_alloc: true)) else {
      throw LadderError(.engine, "no memory")
    }
    defer { ggml_free(context) }
    for (name, type, shape) in tensors {
      guard let tensor = ggml_new_tensor(context, type, Int32(shape.count), shape.map { Int64($0) }) else {
        throw LadderError(.engine, "no memory")
      }
      ggml_set_name(tensor, name)
      gguf_add_tensor(file, tensor)
    }
  }

  static func open(_ path: String) throws -> FileHandle {
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw LadderError(.inputOutput, "cannot read \(path): check its permissions")
    }
    return handle
  }
}
