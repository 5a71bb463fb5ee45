import CLlama
import Foundation
import LadderCompute
import LadderCore

/// The header of a GGUF file: its metadata and its table of tensors, without the tensors' data.
package struct GGUFFile: Sendable {
  package struct TensorInfo: Sendable {
    package let name: String
    /// ggml's order, fastest first.
    package let shape: [Int]
    /// ggml's name of the element type: `F32`, `Q4_K`.
    package let type: String
    /// Bytes from the start of the file.
    package let offset: Int
    package let bytes: Int
    let ggmlType: ggml_type
  }

  package enum Value: Sendable, CustomStringConvertible {
    case string(String)
    case integer(Int)
    case number(Double)
    case flag(Bool)
    case array(type: String, count: Int)

    package var description: String {
      switch self {
      case .string(let value): value
      case .integer(let value): String(value)
      case .number(let value): String(value)
      case .flag(let value): String(value)
      case .array(let type, let count): "[\(type)] × \(count)"
      }
    }
  }

  package let path: String
  package let bytes: Int
  package let version: Int
  package let metadata: [String: Value]
  /// The largest number of each array of 32-bit integers: blocks may differ in their sizes.
  private let largest: [String: Int]
  package let tensors: [TensorInfo]

  /// Reads the header.
  /// - Throws: `missing` where there is no file; `data` where it is no GGUF, is cut short, or its header is broken.
  package init(path: String) throws { try self.init(path: path, headerOnly: false) }

  /// - Parameter headerOnly: accept a file whose tensors' data is not there.
  package init(path: String, headerOnly: Bool) throws {
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory), !isDirectory.boolValue else {
      throw LadderError(.missing, "no model file at \(path)")
    }
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw LadderError(.inputOutput, "cannot read \(path): check its permissions")
    }
    let bytes = Int((try? handle.seekToEnd()) ?? 0)
    try? handle.seek(toOffset: 0)
    let magic = (try? handle.read(upToCount: 4)) ?? Data()
    try? handle.close()
    guard magic == Data("GGUF".utf8) else {
      let start = magic.map { String(format: "%02x", $0) }.joined()
      throw LadderError(
        .data,
        "\(path) is not a GGUF file (it starts with \(start)); "
          + "convert the model with llama.cpp's convert_hf_to_gguf.py")
    }
    Log.install()
    Log.clearError()
    guard let context = gguf_init_from_file(path, gguf_init_params(no_alloc: true, ctx: nil)) else {
      throw LadderError(
        .data, "\(path): the GGUF header is cut short or broken (\(Log.takeError())); fetch the file again")
    }
    defer { gguf_free(context) }

    var metadata: [String: Value] = [:], largest: [String: Int] = [:]
    for id in 0..<gguf_get_n_kv(context) {
      let key = String(cString: gguf_get_key(context, id))
      metadata[key] = Self.value(context, id)
      largest[key] = Self.largest(context, id)
    }
    let dataOffset = gguf_get_data_offset(context)
    tensors = (0..<gguf_get_n_tensors(context)).map { id in
      let type = gguf_get_tensor_type(context, id)
      let ne = gguf_get_tensor_ne(context, id)
      var shape = (0..<4).map { Int(ne?[$0] ?? 1) }
      while shape.count > 1, shape.last == 1 { shape.removeLast() }
      return TensorInfo(
        name: String(cString: gguf_get_tensor_name(context, id)), shape: shape,
        type: String(cString: ggml_type_name(type)).uppercased(),
        offset: dataOffset + gguf_get_tensor_offset(context, id),
        bytes: gguf_get_tensor_size(context, id), ggmlType: type)
    }
    self.path = path
    self.bytes = bytes
    version = Int(gguf_get_version(context))
    self.metadata = metadata
    self.largest = largest
    if !headerOnly, let last = tensors.max(by: { $0.offset + $0.bytes < $1.offset + $1.bytes }),
      last.offset + last.bytes > bytes
    {
      throw LadderError(
        .data,
        "\(path) is cut short: it has \(bytes) bytes and \(last.name) ends at \(last.offset + last.bytes); "
          + "fetch the file again")
    }
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
    let key = "\(architecture).\(key)"
    return integer(key) ?? largest[key]
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
  package func requireDecoder() throws {
    let type = string("general.type") ?? "model"
    if type != "model" {
      throw LadderError(.data, "\(path) is a GGUF of type \(type), not a model; pass the base model itself")
    }
    if let what = Self.undecodable[architecture] {
      throw LadderError(
        .data, "\(path) is \(what) (\(architecture)); Ladder needs a decoder-only language model")
    }
    if flag("\(architecture).attention.causal") == false || metadata["\(architecture).pooling_type"] != nil {
      throw LadderError(
        .data, "\(path) is an encoder or embedding model (\(architecture)); Ladder needs a decoder-only language model")
    }
    if tensors.isEmpty { throw LadderError(.data, "\(path) holds no tensors (a vocabulary file?); pass a whole model") }
  }

  // MARK: - Data

  /// The dequantised values of a tensor: shape[0] × shape[1] × … numbers, fastest dimension first.
  package func values(of tensor: TensorInfo) throws -> [Float] {
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw LadderError(.inputOutput, "cannot read \(path)")
    }
    defer { try? handle.close() }
    try handle.seek(toOffset: UInt64(tensor.offset))
    guard let data = try handle.read(upToCount: tensor.bytes), data.count == tensor.bytes else {
      throw LadderError(.inputOutput, "\(path): could not read \(tensor.name)")
    }
    let count = tensor.shape.reduce(1, *)
    return try [Float](unsafeUninitializedCapacity: count) { buffer, filled in
      try data.withUnsafeBytes { bytes in
        if tensor.ggmlType == GGML_TYPE_F32 {
          UnsafeMutableRawBufferPointer(buffer).copyMemory(from: bytes)
        } else if let convert = ggml_get_type_traits(tensor.ggmlType).pointee.to_float {
          convert(bytes.baseAddress, buffer.baseAddress, Int64(count))
        } else {
          throw LadderError(.data, "\(path): \(tensor.name) has type \(tensor.type), which cannot be dequantised")
        }
      }
      filled = count
    }
  }

  /// Reads a tensor into an engine's memory, quantised as it is.
  package func load(_ info: TensorInfo, into pool: TensorPool) throws -> Tensor {
    let tensor = try pool.make(ggmlType: info.ggmlType, info.shape)
    ggml_set_name(tensor.pointer, info.name)
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw LadderError(.inputOutput, "cannot read \(path)")
    }
    defer { try? handle.close() }
    try handle.seek(toOffset: UInt64(info.offset))
    var offset = 0
    while offset < info.bytes {
      guard let part = try handle.read(upToCount: min(16 << 20, info.bytes - offset)), !part.isEmpty else {
        throw LadderError(.inputOutput, "\(path): could not read \(info.name)")
      }
      part.withUnsafeBytes { tensor.write(bytes: $0, at: offset) }
      offset += part.count
    }
    return tensor
  }

  /// 64 bits (FNV-1a) over the header and over pages sampled evenly from the data: tells models apart in milliseconds,
  /// whatever their size. No protection against a forger.
  package func fingerprint() throws -> String {
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw LadderError(.inputOutput, "cannot read \(path)")
    }
    defer { try? handle.close() }
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    func mix(_ data: Data) { for byte in data { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 } }
    let header = tensors.map(\.offset).min() ?? bytes
    mix(Data("\(bytes) \(tensors.count)".utf8))
    mix(try handle.read(upToCount: min(header, 1 << 20)) ?? Data())
    let pages = 256
    for page in 0..<pages {
      try handle.seek(toOffset: UInt64(header + (bytes - header) / pages * page))
      mix(try handle.read(upToCount: 4096) ?? Data())
    }
    return String(format: "%016llx", hash)
  }

  private static func largest(_ context: OpaquePointer, _ id: Int64) -> Int? {
    guard gguf_get_kv_type(context, id) == GGUF_TYPE_ARRAY,
      [GGUF_TYPE_INT32, GGUF_TYPE_UINT32].contains(gguf_get_arr_type(context, id))
    else { return nil }
    let numbers = UnsafeRawBufferPointer(
      start: gguf_get_arr_data(context, id), count: 4 * gguf_get_arr_n(context, id)
    ).bindMemory(to: Int32.self)
    return numbers.max().map(Int.init)
  }

  private static func value(_ context: OpaquePointer, _ id: Int64) -> Value {
    switch gguf_get_kv_type(context, id) {
    case GGUF_TYPE_STRING: .string(String(cString: gguf_get_val_str(context, id)))
    case GGUF_TYPE_UINT8: .integer(Int(gguf_get_val_u8(context, id)))
    case GGUF_TYPE_INT8: .integer(Int(gguf_get_val_i8(context, id)))
    case GGUF_TYPE_UINT16: .integer(Int(gguf_get_val_u16(context, id)))
    case GGUF_TYPE_INT16: .integer(Int(gguf_get_val_i16(context, id)))
    case GGUF_TYPE_UINT32: .integer(Int(gguf_get_val_u32(context, id)))
    case GGUF_TYPE_INT32: .integer(Int(gguf_get_val_i32(context, id)))
    case GGUF_TYPE_UINT64: .integer(Int(clamping: gguf_get_val_u64(context, id)))
    case GGUF_TYPE_INT64: .integer(Int(gguf_get_val_i64(context, id)))
    case GGUF_TYPE_FLOAT32: .number(Double(gguf_get_val_f32(context, id)))
    case GGUF_TYPE_FLOAT64: .number(gguf_get_val_f64(context, id))
    case GGUF_TYPE_BOOL: .flag(gguf_get_val_bool(context, id))
    default:
      .array(type: String(cString: gguf_type_name(gguf_get_arr_type(context, id))), count: gguf_get_arr_n(context, id))
    }
  }
}
