import CLlama
import Foundation
import LadderCompute
import LadderCore

/// A model with a low-rank adapter added to its weights: W + s·B·A, as one GGUF that any program on llama.cpp runs.
///
/// The sum is made in F32, and rounded to the matrix's own type or to another. Everything else is copied as it is.
package struct MergedModel {
  private let model: GGUFFile
  /// By the matrix's name.
  private let additions: [String: Addition]
  private let type: ggml_type?

  /// What is added to one matrix.
  private struct Addition {
    /// [columns, rank], fastest first.
    let a: GGUFFile.TensorInfo
    /// [rank, rows].
    let b: GGUFFile.TensorInfo
    let scale: Float
  }

  /// The types that matrices can be rounded to without samples.
  package static let types: [String] = (0..<UInt32(GGML_TYPE_COUNT.rawValue)).compactMap { number in
    let type = ggml_type(number)
    guard let name = ggml_type_name(type).map({ String(cString: $0).uppercased() }), isWritten(type),
      name.first == "Q" || ["F32", "F16", "BF16", "IQ4_NL", "IQ4_XS", "MXFP4"].contains(name), name != "Q8_1"
    else { return nil }
    return name
  }

  private static func isWritten(_ type: ggml_type) -> Bool {
    guard type != GGML_TYPE_Q8_K, ggml_blck_size(type) > 0, ggml_type_size(type) > 0 else { return false }
    let isPlain = type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16
    return isPlain || (ggml_is_quantized(type) && !ggml_quantize_requires_imatrix(type))
  }

  /// - Parameters:
  ///   - adapter: llama.cpp's own form of a LoRA adapter.
  ///   - type: what the changed matrices become, by ggml's name; nil is what each is.
  /// - Throws: `data` where the adapter is not one of this model; `usage` for a type that cannot be.
  package init(_ model: GGUFFile, adapter: GGUFFile, type: String? = nil) throws {
    self.model = model
    guard adapter.string("general.type") == "adapter", adapter.string("adapter.type") == "lora" else {
      throw LadderError(.data, "\(adapter.path) is no LoRA adapter")
    }
    guard adapter.architecture == model.architecture else {
      throw LadderError(
        .data,
        "\(adapter.path) is for \(adapter.architecture.shown) models, and \(model.path) is of \(model.architecture)")
    }
    var alpha: Float = 0
    if case .number(let value)? = adapter.metadata["adapter.lora.alpha"] { alpha = Float(value) }
    let parts = Dictionary(adapter.tensors.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
    let matrices = Dictionary(model.tensors.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
    var additions: [String: Addition] = [:]
    for (name, a) in parts where name.hasSuffix(".lora_a") {
      let matrix = String(name.dropLast(".lora_a".count))
      guard let b = parts[matrix + ".lora_b"], let own = matrices[matrix], own.shape.count == 2, a.shape.count <= 2,
        b.shape.count <= 2, a.type == "F32", b.type == "F32", a.shape[0] == own.shape[0]
      else {
        throw LadderError(.data, "\(adapter.path): \(matrix.shown) is no matrix of the model's that can be added to")
      }
      let rank = a.shape.count > 1 ? a.shape[1] : 1
      guard b.shape.reduce(1, *) == rank * own.shape[1], b.shape[0] == rank else {
        throw LadderError(.data, "\(adapter.path): \(matrix.shown) has another shape than the model's")
      }
      additions[matrix] = Addition(a: a, b: b, scale: alpha == 0 ? 1 : alpha / Float(rank))
    }
    guard !additions.isEmpty, additions.count * 2 == adapter.tensors.count else {
      throw LadderError(.data, "\(adapter.path) holds more than low-rank additions, or none")
    }
    self.additions = additions
    self.type = try type.map { try Self.type(named: $0) }
    for tensor in model.tensors where additions[tensor.name] != nil { _ = try written(tensor) }
  }

  private static func type(named name: String) throws -> ggml_type {
    let wanted = name.uppercased()
    guard types.contains(wanted),
      let number = (0..<UInt32(GGML_TYPE_COUNT.rawValue)).first(where: {
        ggml_type_name(ggml_type($0)).map { String(cString: $0).uppercased() } == wanted
      })
    else { throw LadderError(.usage, "`type` \(name.shown): take \(types.joined(separator: ", "))") }
    return ggml_type(number)
  }

  /// The type that a matrix is written in.
  private func written(_ tensor: GGUFFile.TensorInfo) throws -> ggml_type {
    guard additions[tensor.name] != nil else { return tensor.ggmlType }
    if let type {
      guard tensor.shape[0] % Int(ggml_blck_size(type)) == 0 else {
        throw LadderError(
          .usage,
          "`type` \(String(cString: ggml_type_name(type)).uppercased()) does not fit \(tensor.name), whose rows have "
            + "\(tensor.shape[0]) numbers; take Q8_0 or F16")
      }
      return type
    }
    guard Self.isWritten(tensor.ggmlType) else {
      throw LadderError(
        .data, "\(tensor.name) is \(tensor.type), which cannot be made without samples; set `type`, to Q4_K say")
    }
    return tensor.ggmlType
  }

  // MARK: - Writing

  /// - Parameters:
  ///   - threads: that round.
  ///   - progress: called with bytes read, and all.
  package func write(_ path: String, threads: Int, progress: (Int, Int) -> Void = { _, _ in }) throws {
    let header = try header()
    let total = model.tensors.reduce(0) { $0 + $1.bytes }
    var done = 0
    DurableFile.sweep(path)
    try DurableFile.write(path) { file in
      try header.withUnsafeBytes { try file.append($0) }
      var readers: [String: FileHandle] = [:]
      for tensor in model.tensors {
        let reader = try readers[tensor.path] ?? GGUFFile.open(tensor.path)
        readers[tensor.path] = reader
        let count: Int
        if let addition = additions[tensor.name] {
          let bytes = try merged(tensor, addition, reader, threads)
          try bytes.withUnsafeBytes { try file.append($0) }
          count = bytes.count
        } else {
          try TensorBytes(reader, tensor).forEachPart { try file.append($0) }
          count = tensor.bytes
        }
        let padding = [UInt8](repeating: 0, count: (32 - count % 32) % 32)
        try padding.withUnsafeBytes { try file.append($0) }
        done += tensor.bytes
        progress(done, total)
        try Cancellation.check()
      }
    }
  }

  /// The metadata, and the table of tensors.
  private func header() throws -> Data {
    let file = try model.copiedMetadata()
    defer { gguf_free(file) }
    try GGUFFile.add(model.tensors.map { ($0.name, try written($0), $0.shape) }, to: file)
    var data = Data(count: gguf_get_meta_size(file))
    data.withUnsafeMutableBytes { gguf_get_meta_data(file, $0.baseAddress) }
    return data
  }

  /// A matrix with its addition. Shapes: [columns, rows].
  private func merged(
    _ tensor: GGUFFile.TensorInfo, _ addition: Addition, _ reader: FileHandle, _ threads: Int
  ) throws -> [UInt8] {
    let columns = tensor.shape[0], rows = tensor.shape[1], type = try written(tensor)
    let a = try floats(addition.a), b = try floats(addition.b), rank = a.count / columns
    let from = ggml_row_size(tensor.ggmlType, Int64(columns)), to = ggml_row_size(type, Int64(columns))
    ggml_quantize_init(type)
    let source = TensorBytes(reader, tensor)
    let part = max(1, (1 << 18) / columns), parts = (rows + part - 1) / part
    var result = [UInt8](repeating: 0, count: rows * to), failure: LadderError?
    let lock = NSLock()
    result.withUnsafeMutableBytes { output in
      nonisolated(unsafe) let output = output
      nonisolated(unsafe) var first: LadderError?
      let lanes = max(1, min(threads, parts))
      DispatchQueue.concurrentPerform(iterations: lanes) { lane in
        var values = [Float](repeating: 0, count: part * columns)
        for index in stride(from: lane, to: parts, by: lanes) {
          let range = (index * part)..<min(rows, (index + 1) * part)
          do {
            let bytes = try source.read(range.lowerBound * from, range.count * from)
            Self.dequantise(bytes, tensor.ggmlType, into: &values, range.count * columns)
            Self.add(a, b, rank, addition.scale, to: &values, range, columns)
            _ = ggml_quantize_chunk(
              type, values, output.baseAddress.map { $0 + range.lowerBound * to }, 0, Int64(range.count),
              Int64(columns), nil)
          } catch { lock.withLock { first = LadderError(any: error) } }
        }
      }
      failure = first
    }
    if let failure { throw failure }
    return result
  }

  private func floats(_ tensor: GGUFFile.TensorInfo) throws -> [Float] {
    let bytes = try TensorBytes(try GGUFFile.open(tensor.path), tensor).read(0, tensor.bytes)
    return bytes.withUnsafeBytes { raw in
      (0..<(raw.count / 4)).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
    }
  }

  private static func dequantise(_ bytes: [UInt8], _ type: ggml_type, into values: inout [Float], _ count: Int) {
    if type == GGML_TYPE_F32 {
      values.withUnsafeMutableBytes { $0.copyBytes(from: bytes) }
    } else if let convert = ggml_get_type_traits(type)?.pointee.to_float {
      convert(bytes, &values, Int64(count))
    }
  }

  /// values[row] += scale · B[row] · A.
  private static func add(
    _ a: [Float], _ b: [Float], _ rank: Int, _ scale: Float, to values: inout [Float], _ rows: Range<Int>,
    _ columns: Int
  ) {
    values.withUnsafeMutableBufferPointer { values in
      a.withUnsafeBufferPointer { a in
        for (place, row) in rows.enumerated() {
          for k in 0..<rank {
            let factor = scale * b[row * rank + k]
            for column in 0..<columns {
              values[place * columns + column] += factor * a[k * columns + column]
            }
          }
        }
      }
    }
  }
}

/// A tensor's bytes in its file.
private struct TensorBytes: @unchecked Sendable {
  private let handle: FileHandle
  private let tensor: GGUFFile.TensorInfo

  init(_ handle: FileHandle, _ tensor: GGUFFile.TensorInfo) {
    self.handle = handle
    self.tensor = tensor
  }

  func read(_ start: Int, _ count: Int) throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let got = pread(
          handle.fileDescriptor, buffer.baseAddress.map { $0 + filled }, count - filled,
          off_t(tensor.offset + start + filled))
        if got < 0, errno == EINTR { continue }
        guard got > 0 else { throw LadderError(.inputOutput, "\(tensor.path): could not read \(tensor.name)") }
        filled += got
      }
    }
  }

  func forEachPart(_ body: (UnsafeRawBufferPointer) throws -> Void) throws {
    let size = 1 << 22
    for start in stride(from: 0, to: tensor.bytes, by: size) {
      try read(start, min(size, tensor.bytes - start)).withUnsafeBytes { try body($0) }
    }
  }
}
