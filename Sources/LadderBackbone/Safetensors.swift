import Foundation
import LadderCompute
import LadderCore

/// The safetensors format: an 8-byte little-endian header length, a JSON header, then the tensors' bytes.
///
/// Shapes in the file are in the usual order, slowest first: a matrix that ggml calls `[k, n]` is `[n, k]` there.
package struct Safetensors {
  package struct Entry {
    /// Slowest dimension first.
    package var shape: [Int]
    package var values: [Float]

    package init(shape: [Int], values: [Float]) {
      self.shape = shape
      self.values = values
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
    let names = tensors.keys.sorted()
    for name in names {
      guard let entry = tensors[name] else { continue }
      let end = offset + 4 * entry.values.count
      header[name] = ["dtype": "F32", "shape": entry.shape, "data_offsets": [offset, end]] as [String: Any]
      offset = end
    }
    var json = try JSONSerialization.data(withJSONObject: header, options: [.sortedKeys, .withoutEscapingSlashes])
    json.append(Data(repeating: 0x20, count: (8 - json.count % 8) % 8))
    let length = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Data($0) }
    try DurableFile.write(
      path, [length, json] + names.compactMap { tensors[$0].map { $0.values.withUnsafeBytes { Data($0) } } })
  }

  /// The values of a tensor. Shapes: `shape` is in ggml's order, fastest first.
  /// - Throws: `data` where it is missing or has another shape; `path` names the file.
  package func values(_ name: String, shape: [Int], path: String) throws -> [Float] {
    guard let entry = tensors[name], entry.shape == shape.reversed() else {
      throw LadderError(
        .data, "\(path) holds no \(name) of shape \(shape.reversed()); it was written for other settings")
    }
    return entry.values
  }

  /// - Throws: `missing`, or `data` where the file is not whole.
  package init(path: String) throws {
    let data = try DurableFile.read(path)
    func broken(_ why: String) -> LadderError { LadderError(.data, "\(path) is not a whole safetensors file: \(why)") }
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
        let offsets = entry["data_offsets"] as? [Int],
        offsets.count == 2, offsets[0] >= 0, offsets[1] >= offsets[0], start + offsets[1] <= data.count
      else { throw broken("tensor \(name) is cut short") }
      guard entry["dtype"] as? String == "F32" else { throw broken("tensor \(name) is not F32") }
      let count = shape.reduce(1, *)
      guard offsets[1] - offsets[0] == 4 * count else { throw broken("tensor \(name) has the wrong size") }
      let values = [Float](unsafeUninitializedCapacity: count) { buffer, filled in
        data.subdata(in: (start + offsets[0])..<(start + offsets[1])).withUnsafeBytes {
          UnsafeMutableRawBufferPointer(buffer).copyMemory(from: $0)
        }
        filled = count
      }
      tensors[name] = Entry(shape: shape, values: values)
    }
  }
}

extension Parameters {
  /// Every parameter by its name.
  package func export() -> Safetensors {
    var file = Safetensors(metadata: ["format": "ladder"])
    for specification in specifications {
      file.tensors[specification.name] = .init(
        shape: specification.shape.reversed(), values: self[specification.name].read())
    }
    return file
  }

  /// - Throws: `data` where a parameter is missing or has another shape.
  package func restore(_ file: Safetensors, from path: String) throws {
    for specification in specifications {
      self[specification.name].write(try file.values(specification.name, shape: specification.shape, path: path))
    }
  }
}
