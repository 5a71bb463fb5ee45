import CLlama
import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import TestModels
import Testing

/// Whatever a file holds, its reader takes it or refuses it in one line.
@Suite(.serialized) struct ReaderFuzzTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  /// Reads a file of these bytes; nil where it was taken.
  private func refusal(_ bytes: [UInt8], _ read: (String) throws -> Void) throws -> LadderError? {
    let path = folder.file("mutant")
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    do {
      try read(path)
      return nil
    } catch let error as LadderError {
      return error
    }
  }

  /// What is taken can be read whole, and llama.cpp takes its header too.
  @Test func changedModels() throws {
    Log.install()
    var taken = 0, refused = 0
    var other = GGUFBytes.sample
    other.version = 2
    other.keys.append(("general.alignment", GGUFBytes.number(UInt32(32), 4)))
    try Mutations.forEach(of: [GGUFBytes.sample.contents, other.contents]) { bytes in
      let error = try refusal(bytes) { path in
        let file = try GGUFFile(path: path)
        _ = try file.fingerprint()
        _ = try file.earlierFingerprint()
        for tensor in file.tensors { _ = try? file.values(of: tensor) }
        let header = gguf_init_from_file(path, gguf_init_params(no_alloc: true, ctx: nil))
        #expect(header != nil, "llama.cpp refuses what was taken")
        gguf_free(header)
        try file.requireDecoder()
        _ = try ModelDimensions(file)
      }
      if let error {
        refused += 1
        #expect(error.kind == .data && !error.message.contains("\n"), "\(error)")
      } else {
        taken += 1
      }
    }
    #expect(taken > 100 && refused > 100, "\(taken) taken, \(refused) refused")
  }

  @Test func changedSafetensors() throws {
    var file = Safetensors(metadata: ["format": "pt"])
    file.tensors["a.weight"] = .init(shape: [2, 3], values: [1, 2, 3, 4, 5, 6])
    file.tensors["b"] = .init(shape: [4], element: .uint8) { take in try [UInt8(1), 2, 3, 4].withUnsafeBytes(take) }
    try file.write(folder.file("sample"))
    let sample = Array(try Data(contentsOf: URL(fileURLWithPath: folder.file("sample"))))
    var taken = 0, refused = 0
    let words = ["[", "]", "{", "}", ",", ":", "\"", "-1", "9223372036854775807", "1e400", "null", "F32", "0"]
    try Mutations.forEach(of: [sample], words: words) { bytes in
      let error = try refusal(bytes) { path in
        for entry in try Safetensors(path: path).tensors.values { #expect(try entry.values().count == entry.count) }
      }
      if let error {
        refused += 1
        #expect(error.kind == .data && !error.message.contains("\n"), "\(error)")
      } else {
        taken += 1
      }
    }
    #expect(taken > 100 && refused > 100, "\(taken) taken, \(refused) refused")
  }
}
