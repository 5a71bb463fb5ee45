import Foundation
import LadderBackbone
import LadderCore
import TestModels
import Testing

/// A header that is not as it should be is refused in one line that says why.
@Suite(.serialized) struct GGUFHeaderTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func read(_ bytes: [UInt8]) throws -> GGUFFile {
    let path = folder.file("crafted.gguf")
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    return try GGUFFile(path: path)
  }

  private func expectRefusal(
    _ words: String..., location: SourceLocation = #_sourceLocation, _ change: (inout GGUFBytes) -> Void
  ) throws {
    var file = GGUFBytes.sample
    change(&file)
    let error = #expect(throws: LadderError.self, sourceLocation: location) { try read(file.contents) }
    #expect(error?.kind == .data, sourceLocation: location)
    for word in words + ["crafted.gguf"] {
      #expect(error?.message.contains(word) == true, "\(error?.message ?? "")", sourceLocation: location)
    }
  }

  @Test(arguments: [UInt32(2), 3]) func whatIsThereIsRead(_ version: UInt32) throws {
    var sample = GGUFBytes.sample
    sample.version = version
    let file = try read(sample.contents)
    #expect(file.version == Int(version) && file.architecture == "llama" && file.own("embedding_length") == 4)
    #expect(file.own("context_length") == 64 && file.own("small") == -1 && file.flag("llama.flag") == true)
    #expect(file.metadata["llama.rope.freq_base"]?.description == "10000.0")
    #expect(file.metadata["llama.double"]?.description == "0.5")
    #expect(file.metadata["tokenizer.ggml.tokens"]?.description == "[str] × 5")
    #expect(file.metadata["tokenizer.ggml.scores"]?.description == "[f32] × 5")
    #expect(file.tensors.map(\.shape) == [[4, 5], [4], [4, 4]] && file.tensors.map(\.bytes) == [80, 16, 64])
    let values = try file.values(of: file.tensors[1])
    let expected = Array(sample.data[96..<112]).withUnsafeBytes { bytes in
      (0..<4).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
    }
    #expect(values == expected)
  }

  @Test func otherVersions() throws {
    try expectRefusal("big-endian") { $0.version = UInt32(3).byteSwapped }
    try expectRefusal("version 1") { $0.version = 1 }
    try expectRefusal("version 4") { $0.version = 4 }
    try expectRefusal("version 0") { $0.version = 0 }
  }

  @Test func duplicates() throws {
    try expectRefusal("two tensors output_norm.weight") { $0.tensors[2].name = "output_norm.weight" }
    try expectRefusal("general.name stands in it twice") { $0.keys.append(("general.name", GGUFBytes.string("x"))) }
  }

  @Test func absurdLengths() throws {
    for count in [UInt64.max, 1 << 63, 1 << 62, 1 << 40] {
      try expectRefusal("cut short") { $0.keyCount = count }
      try expectRefusal("cut short") { $0.tensorCount = count }
      try expectRefusal("cut short") { $0.keys.append(("x", GGUFBytes.number(count, 8))) }
      for type in [UInt32(0), 1, 5, 8, 10, 12] {
        let list = GGUFBytes.bytes(UInt32(9)) + GGUFBytes.bytes(type) + GGUFBytes.bytes(count)
        try expectRefusal("cut short") { $0.keys.append(("x", list)) }
      }
      try expectRefusal("broken", "token_embd.weight") { $0.tensors[0].shape = [4, count | 1, 1 << 61] }
      try expectRefusal("broken") { $0.tensors[1].offset = count }
    }
    try expectRefusal("broken") { $0.tensors[0].shape = [0, 1 << 62, 1 << 62] }
    try expectRefusal("5 dimensions") { $0.tensors[0].shape = [1, 1, 1, 1, 1] }
    try expectRefusal("broken") { $0.tensors[0].name = String(repeating: "n", count: 64) }
  }

  @Test func unknownKinds() throws {
    try expectRefusal("unknown type 13") { $0.keys.append(("x", GGUFBytes.bytes(UInt32(13)))) }
    try expectRefusal("unknown type 9") {
      $0.keys.append(("x", GGUFBytes.bytes(UInt32(9)) + GGUFBytes.bytes(UInt32(9)) + GGUFBytes.bytes(UInt64(0))))
    }
    try expectRefusal("type 4000") { $0.tensors[0].type = 4000 }
    // Q4_0 has blocks of 32.
    try expectRefusal("do not go together") { $0.tensors[0].type = 2 }
    for value in [UInt32(0), 48] {
      try expectRefusal("no power of 2") { $0.keys.append(("general.alignment", GGUFBytes.number(value, 4))) }
    }
  }

  /// At whatever byte a file ends.
  @Test func cutAnywhere() throws {
    let whole = GGUFBytes.sample.contents
    for length in 0..<(whole.count - 32) {
      let error = #expect(throws: LadderError.self) { try read(Array(whole.prefix(length))) }
      #expect(error?.kind == .data && error?.message.contains(length < 4 ? "not a GGUF" : "cut short") == true)
    }
  }

  /// llama.cpp would abort.
  @Test func aVocabularyThatRepeatsATokenIsRefused() throws {
    var sample = GGUFBytes.sample
    sample.keys[11].value = GGUFBytes.list(["<unk>", "<s>", "</s>", "a", "a"])
    let file = try read(sample.contents)
    let error = #expect(throws: LadderError.self) { try file.requireDecoder() }
    #expect(error?.message.contains("token twice") == true)
  }

  @Test func aPipeIsNoModel() throws {
    let path = folder.file("pipe")
    #expect(mkfifo(path, 0o600) == 0)
    let error = #expect(throws: LadderError.self) { try GGUFFile(path: path) }
    #expect(error?.message.contains("not a regular file") == true)
  }
}
