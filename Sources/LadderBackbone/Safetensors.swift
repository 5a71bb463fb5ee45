import Foundation
import LadderCompute
import LadderCore

/// The safetensors format: an 8-byte little-endian header length, a JSON header, then the tensors' bytes.
///
/// Shapes in the file are in the usual order, slowest first: a matrix that ggml calls `[k, n]` is `[n, k]` there. Bytes
/// are never all in memory at once: a tensor hands them out part by part, from where they are.
package struct Safetensors {
  package enum Element: String, Sendable {
    case float32 = "F32"
    case int8 = "I8"
    case uint8 = "U8"

    package var size: Int { self == .float32 ? 4 : 1 }
  }

  package typealias Take = (UnsafeRawBufferPointer) throws -> Void

  package struct Entry {
    /// Slowest dimension first.
    package let shape: [Int]
    package let element: Element
    /// Hands out the bytes in order.
    package let parts: (Take) throws -> Void

    package init(shape: [Int], element: Element = .float32, parts: @escaping (Take) throws -> Void) {
      self.shape = shape
      self.element = element
      self.parts = parts
    }

    package init(shape: [Int], values: [Float]) {
      self.init(shape: shape) { take in try values.withUnsafeBytes { try take($0) } }
    }

    /// A tensor that is F32 and contiguous, read when it is written.
    package init(_ tensor: Tensor, shape: [Int]) {
      self.init(shape: shape) { take in try tensor.forEachPart(take) }
    }

    package var count: Int { shape.reduce(1, *) }

    /// The numbers, whatever they are kept as.
    package func values() throws -> [Float] {
      var result: [Float] = []
      result.reserveCapacity(count)
      try parts { bytes in
        switch element {
        case .float32: result.append(contentsOf: bytes.bindMemory(to: Float.self))
        case .int8: result.append(contentsOf: bytes.bindMemory(to: Int8.self).lazy.map { Float($0) })
        case .uint8: result.append(contentsOf: bytes.lazy.map { Float($0) })
        }
      }
      return result
    }

    /// Copies F32 numbers into a tensor of as many, which rounds them where it is of BF16.
    package func copy(to tensor: Tensor) throws {
      precondition(element == .float32 && tensor.count == count)
      var offset = 0
      try parts { bytes in offset += tensor.write(rounding: bytes, at: offset) }
    }
  }

  package var tensors: [String: Entry]
  package var metadata: [String: String]

  package init(tensors: [String: Entry] = [:], metadata: [String: String] = [:]) {
    self.tensors = tensors
    self.metadata = metadata
  }

  package func write(_ path: String) throws {
    var header: [String: Any] = [:]
    if !metadata.isEmpty { header["__metadata__"] = metadata }
    var offset = 0
    let sorted = tensors.sorted { $0.key < $1.key }
    for (name, entry) in sorted {
      let end = offset + entry.element.size * entry.count
      header[name] =
        ["dtype": entry.element.rawValue, "shape": entry.shape, "data_offsets": [offset, end]] as [String: Any]
      offset = end
    }
    var json = try JSONSerialization.data(withJSONObject: header, options: [.sortedKeys, .withoutEscapingSlashes])
    json.append(Data(repeating: 0x20, count: (8 - json.count % 8) % 8))
    try DurableFile.write(path) { file in
      try withUnsafeBytes(of: UInt64(json.count).littleEndian) { try file.append($0) }
      try json.withUnsafeBytes { try file.append($0) }
      for (_, entry) in sorted { try entry.parts { try file.append($0) } }
    }
  }

  /// A tensor of F32 numbers. Shapes: `shape` is in ggml's order, fastest first.
  /// - Throws: `data` where it is missing or has another shape; `path` names the file.
  package func entry(_ name: String, shape: [Int], path: String) throws -> Entry {
    guard let entry = tensors[name], entry.shape == shape.reversed(), entry.element == .float32 else {
      throw LadderError(
        .data, "\(path) holds no \(name) of shape \(shape.reversed()); it was written for other settings")
    }
    return entry
  }

  /// Its numbers.
  package func values(_ name: String, shape: [Int], path: String) throws -> [Float] {
    try entry(name, shape: shape, path: path).values()
  }

  /// Opens a file, whose bytes are read when they are asked for.
  /// - Throws: `missing`, or `data` where the file is not whole.
  package init(path: String) throws {
    let data = try DurableFile.read(path)
    func broken(_ why: String) -> LadderError {
      LadderError(.data, "\(path) is not a whole safetensors file: \(why.shown)")
    }
    guard data.count >= 8 else { throw broken("it has \(data.count) bytes") }
    let length = data.prefix(8).enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << (8 * UInt64($1.offset)) }
    guard length <= UInt64(data.count - 8) else { throw broken("its header is cut short") }
    let start = 8 + Int(length)
    guard let header = try? JSONSerialization.jsonObject(with: data.subdata(in: 8..<start)) as? [String: Any] else {
      throw broken("its header is no JSON object")
    }
    tensors = [:]
    metadata = header["__metadata__"] as? [String: String] ?? [:]
    for (name, value) in header where name != "__metadata__" {
      guard let entry = value as? [String: Any], let shape = entry["shape"] as? [Int],
        let offsets = entry["data_offsets"] as? [Int], offsets.count == 2, offsets[0] >= 0, offsets[1] >= offsets[0],
        offsets[1] <= data.count - start
      else { throw broken("tensor \(name) is cut short") }
      guard let element = (entry["dtype"] as? String).flatMap(Element.init) else {
        throw broken("tensor \(name) is not F32")
      }
      guard Self.bytes(shape, element) == offsets[1] - offsets[0] else {
        throw broken("tensor \(name) has the wrong size")
      }
      let range = (start + offsets[0])..<(start + offsets[1])
      tensors[name] = Entry(shape: shape, element: element) { take in
        // A file's tensors need not lie at multiples of their size.
        let part = 1 << 22
        for first in stride(from: range.lowerBound, to: range.upperBound, by: part) {
          try data.subdata(in: first..<min(first + part, range.upperBound)).withUnsafeBytes { try take($0) }
        }
      }
    }
  }

  /// Bytes of a tensor; nil where no machine holds as many.
  private static func bytes(_ shape: [Int], _ element: Element) -> Int? {
    var count = element.size
    for dimension in shape {
      let (product, overflows) = count.multipliedReportingOverflow(by: dimension)
      if overflows || dimension < 0 { return nil }
      count = product
    }
    return count
  }
}

extension Parameters {
  /// Every parameter by its name.
  package func export() -> Safetensors {
    var file = Safetensors(metadata: ["format": "ladder"])
    for specification in specifications {
      file.tensors[specification.name] = .init(self[specification.name], shape: specification.shape.reversed())
    }
    return file
  }

  /// - Throws: `data` where a parameter is missing or has another shape; the parameters stay as they were then.
  package func restore(_ file: Safetensors, from path: String) throws {
    let entries = try specifications.map { try file.entry($0.name, shape: $0.shape, path: path) }
    for (specification, entry) in zip(specifications, entries) { try entry.copy(to: self[specification.name]) }
  }
}
