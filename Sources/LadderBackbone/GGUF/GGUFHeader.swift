import CLlama
import Foundation
import LadderCore

/// The header of one GGUF file, of version 2 or 3: metadata, and the table of tensors. Whatever a file holds, it is read
/// or refused in one line; what is read, llama.cpp reads too.
struct GGUFHeader {
  struct Entry {
    let value: GGUFFile.Value
    let type: gguf_type
    /// Where in the file its type and value are.
    let place: Range<Int>
  }

  let path: String
  /// Of the file.
  let bytes: Int
  let version: Int
  let metadata: [String: Entry]
  let tensors: [GGUFFile.TensorInfo]
  /// Whether the vocabulary has a token twice.
  let repeatsTokens: Bool

  /// - Parameter headerOnly: accept a file whose tensors' data is not there.
  init(path: String, headerOnly: Bool) throws {
    let reader = try HeaderReader(path: path)
    self.path = path
    bytes = reader.size
    version = try Self.version(reader)
    // A tensor has a name, a number of dimensions, a type and an offset; a key has a name, a type and a value.
    let tensorCount = try reader.count(ofAtLeast: 24), entryCount = try reader.count(ofAtLeast: 13)
    var parser = Parser(reader: reader)
    metadata = try parser.metadata(entryCount)
    repeatsTokens = parser.repeatsTokens
    tensors = try parser.tensors(tensorCount, alignment: try Self.alignment(metadata, path))
    if !headerOnly, let last = tensors.last, last.offset + last.bytes > bytes {
      throw LadderError(
        .data,
        "\(path) is cut short: it has \(bytes) bytes and \(last.name.shown) ends at \(last.offset + last.bytes); "
          + "fetch the file again")
    }
  }

  func integer(_ key: String, _ type: gguf_type) -> Int? {
    guard let entry = metadata[key], entry.type == type, case .integer(let value) = entry.value else { return nil }
    return value
  }

  private static func version(_ reader: HeaderReader) throws -> Int {
    let path = reader.path
    let magic = try reader.bytes(min(4, reader.size)) { Array($0) }
    guard magic == Array("GGUF".utf8) else {
      let start = magic.map { String(format: "%02x", $0) }.joined()
      throw LadderError(
        .data,
        "\(path) is not a GGUF file (it starts with \(start)); "
          + "convert the model with llama.cpp's convert_hf_to_gguf.py")
    }
    let version = try reader.integer(UInt32.self)
    if (2...3).contains(version) { return Int(version) }
    if (1...3).contains(version.byteSwapped) {
      throw LadderError(.data, "\(path) is a GGUF for big-endian machines; convert the model for this one")
    }
    throw LadderError(
      .data, "\(path) is a GGUF of version \(version), and versions 2 and 3 are read; convert the model again")
  }

  private static func alignment(_ metadata: [String: Entry], _ path: String) throws -> Int {
    guard let entry = metadata["general.alignment"] else { return 32 }
    if entry.type == GGUF_TYPE_UINT32, case .integer(let value) = entry.value, value > 0, value & (value - 1) == 0 {
      return value
    }
    throw LadderError(.data, "\(path): general.alignment is no power of 2; convert the model again")
  }
}

// MARK: - Parsing

private struct Parser {
  let reader: HeaderReader
  var repeatsTokens = false

  private func broken(_ why: String) -> LadderError {
    LadderError(.data, "\(reader.path): the GGUF header is broken (\(why.shown)); fetch the file again")
  }

  /// No text of a model is longer.
  private static let longestText = 1 << 26

  private func string(_ limit: Int = Self.longestText) throws -> String {
    try reader.bytes(try stringLength(limit)) { String(decoding: $0, as: UTF8.self) }
  }

  private func stringLength(_ limit: Int = Self.longestText) throws -> Int {
    let length = try reader.count(ofAtLeast: 1)
    guard length <= limit else { throw broken("a text of \(length) bytes") }
    return length
  }

  // MARK: - Metadata

  mutating func metadata(_ count: Int) throws -> [String: GGUFHeader.Entry] {
    var metadata: [String: GGUFHeader.Entry] = [:]
    for _ in 0..<count {
      let key = try string(1 << 16)
      if key.isEmpty { throw broken("a key without a name") }
      let start = reader.position, type = gguf_type(try reader.integer(UInt32.self))
      let value = try value(type, key)
      let entry = GGUFHeader.Entry(value: value, type: type, place: start..<reader.position)
      guard metadata.updateValue(entry, forKey: key) == nil else { throw broken("\(key) stands in it twice") }
    }
    return metadata
  }

  private mutating func value(_ type: gguf_type, _ key: String) throws -> GGUFFile.Value {
    switch type {
    case GGUF_TYPE_STRING: .string(try string())
    case GGUF_TYPE_UINT8: .integer(Int(try reader.integer(UInt8.self)))
    case GGUF_TYPE_INT8: .integer(Int(try reader.integer(Int8.self)))
    case GGUF_TYPE_UINT16: .integer(Int(try reader.integer(UInt16.self)))
    case GGUF_TYPE_INT16: .integer(Int(try reader.integer(Int16.self)))
    case GGUF_TYPE_UINT32: .integer(Int(try reader.integer(UInt32.self)))
    case GGUF_TYPE_INT32: .integer(Int(try reader.integer(Int32.self)))
    case GGUF_TYPE_UINT64: .integer(Int(clamping: try reader.integer(UInt64.self)))
    case GGUF_TYPE_INT64: .integer(Int(try reader.integer(Int64.self)))
    case GGUF_TYPE_FLOAT32: .number(Double(Float(bitPattern: try reader.integer())))
    case GGUF_TYPE_FLOAT64: .number(Double(bitPattern: try reader.integer()))
    case GGUF_TYPE_BOOL: .flag(try reader.integer(UInt8.self) != 0)
    case GGUF_TYPE_ARRAY: try array(key)
    default: throw broken("\(key) has the unknown type \(type.rawValue)")
    }
  }

  private mutating func array(_ key: String) throws -> GGUFFile.Value {
    let type = gguf_type(try reader.integer(UInt32.self))
    let size: Int
    switch type {
    case GGUF_TYPE_UINT8, GGUF_TYPE_INT8, GGUF_TYPE_BOOL: size = 1
    case GGUF_TYPE_UINT16, GGUF_TYPE_INT16: size = 2
    case GGUF_TYPE_UINT32, GGUF_TYPE_INT32, GGUF_TYPE_FLOAT32: size = 4
    case GGUF_TYPE_UINT64, GGUF_TYPE_INT64, GGUF_TYPE_FLOAT64, GGUF_TYPE_STRING: size = 8
    default: throw broken("\(key) is a list of the unknown type \(type.rawValue)")
    }
    let count = try reader.count(ofAtLeast: size)
    var largest: Int?
    if type == GGUF_TYPE_INT32 || type == GGUF_TYPE_UINT32 {
      for _ in 0..<count { largest = max(largest ?? 0, Int(try reader.integer(Int32.self))) }
    } else if type != GGUF_TYPE_STRING {
      try reader.skip(count * size)
    } else if key == "tokenizer.ggml.tokens" {
      repeatsTokens = try !areDistinct(count)
    } else {
      for _ in 0..<count { try reader.skip(try stringLength()) }
    }
    return .array(type: String(cString: gguf_type_name(type)), count: count, largest: largest)
  }

  /// Reads so many strings and tells, by 64 bits of each (FNV-1a), whether no two are alike; empty ones do not count.
  private func areDistinct(_ count: Int) throws -> Bool {
    var seen = Set<UInt64>(), areDistinct = true
    for _ in 0..<count {
      let length = try stringLength()
      var hash: UInt64 = 0xcbf2_9ce4_8422_2325
      try reader.bytes(length) { for byte in $0 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 } }
      if length > 0, !seen.insert(hash).inserted { areDistinct = false }
    }
    return areDistinct
  }

  // MARK: - Tensors

  func tensors(_ count: Int, alignment: Int) throws -> [GGUFFile.TensorInfo] {
    var infos: [(name: String, shape: [Int], type: ggml_type, bytes: Int)] = []
    var names = Set<String>(), offsets: [Int] = [], end = 0
    for _ in 0..<count {
      let name = try string(Int(GGML_MAX_NAME) - 1)
      guard names.insert(name).inserted else { throw broken("it has two tensors \(name)") }
      let shape = try shape(name), type = try type(name, columns: shape[0])
      guard let bytes = Self.bytes(shape, type) else { throw broken("\(name) has the impossible shape \(shape)") }
      guard try reader.integer(UInt64.self) == UInt64(end) else { throw broken("\(name) is not where it has to be") }
      offsets.append(end)
      infos.append((name, shape, type, bytes))
      let (next, overflows) = end.addingReportingOverflow(bytes + (alignment - bytes % alignment) % alignment)
      guard !overflows, next < 1 << 60 else { throw broken("\(name) is larger than any file") }
      end = next
    }
    let data = (reader.position + alignment - 1) / alignment * alignment
    if count > 0, data > reader.size { throw reader.cutShort() }
    return zip(infos, offsets).map { info, offset in
      GGUFFile.TensorInfo(
        name: info.name, shape: info.shape, type: String(cString: ggml_type_name(info.type)).uppercased(),
        path: reader.path, offset: data + offset, bytes: info.bytes, ggmlType: info.type)
    }
  }

  private func shape(_ name: String) throws -> [Int] {
    let dimensions = try reader.integer(UInt32.self)
    guard dimensions <= UInt32(GGML_MAX_DIMS) else { throw broken("\(name) has \(dimensions) dimensions") }
    var shape: [Int] = []
    for _ in 0..<dimensions {
      let size = try reader.integer(Int64.self)
      if size < 0 { throw broken("\(name) has a negative size") }
      shape.append(Int(size))
    }
    while shape.count > 1, shape.last == 1 { shape.removeLast() }
    return shape.isEmpty ? [1] : shape
  }

  private func type(_ name: String, columns: Int) throws -> ggml_type {
    let number = try reader.integer(UInt32.self)
    guard number < UInt32(GGML_TYPE_COUNT.rawValue) else {
      throw broken("\(name) has type \(number), which this llama.cpp does not know")
    }
    let type = ggml_type(number), block = Int(ggml_blck_size(type))
    guard block > 0, ggml_type_size(type) > 0, columns % block == 0 else {
      throw broken("\(name) has type \(number) and rows of \(columns), which do not go together")
    }
    return type
  }

  /// Bytes of a tensor; nil where no file holds as many.
  private static func bytes(_ shape: [Int], _ type: ggml_type) -> Int? {
    var bytes = shape[0] / Int(ggml_blck_size(type)), numbers = shape[0]
    for factor in [Int(ggml_type_size(type))] + shape.dropFirst() {
      let (product, overflows) = bytes.multipliedReportingOverflow(by: factor)
      if overflows { return nil }
      bytes = product
    }
    // A size of 0 must not hide that the others overflow.
    for factor in shape.dropFirst() where factor > 1 {
      let (product, overflows) = numbers.multipliedReportingOverflow(by: factor)
      if overflows { return nil }
      numbers = product
    }
    return bytes < 1 << 60 ? bytes : nil
  }
}
