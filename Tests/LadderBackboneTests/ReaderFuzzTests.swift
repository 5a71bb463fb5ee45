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

  /// Reads changed copies of the files; what is refused is refused in one line.
  private func fuzz(_ files: [[UInt8]], words: [String] = [], _ read: (String) throws -> Void) throws {
    let path = folder.file("mutant")
    var taken = 0, refused = 0
    try Mutations.forEach(of: files, words: words) { bytes in
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      do {
        try read(path)
        taken += 1
      } catch let error as LadderError {
        refused += 1
        #expect(error.kind == .data && !error.message.contains("\n"), "\(error)")
      }
    }
    #expect(taken > 100 && refused > 100, "\(taken) taken, \(refused) refused")
  }

  /// What is taken can be read whole, and llama.cpp takes its header too.
  @Test func changedModels() throws {
    Log.install()
    var other = GGUFBytes.sample
    other.version = 2
    other.keys.append(("general.alignment", GGUFBytes.number(UInt32(32), 4)))
    try fuzz([GGUFBytes.sample.contents, other.contents]) { path in
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
  }

  @Test func changedSafetensors() throws {
    var file = Safetensors(metadata: ["format": "pt"])
    file.tensors["a.weight"] = .init(shape: [2, 3], values: [1, 2, 3, 4, 5, 6])
    file.tensors["b"] = .init(shape: [4], element: .uint8) { take in try [UInt8(1), 2, 3, 4].withUnsafeBytes(take) }
    try file.write(folder.file("sample"))
    let sample = Array(try Data(contentsOf: URL(fileURLWithPath: folder.file("sample"))))
    let words = ["[", "]", "{", "}", ",", ":", "\"", "-1", "9223372036854775807", "1e400", "null", "F32", "0"]
    try fuzz([sample], words: words) { path in
      for entry in try Safetensors(path: path).tensors.values { #expect(try entry.values().count == entry.count) }
    }
  }
}
