import Foundation
import LadderBackbone
import LadderCore
import TestModels
import Testing

/// A fingerprint tells what decides the results, and nothing else.
@Suite(.serialized) struct ModelFingerprintTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func fingerprint(_ change: (inout GGUFBytes) -> Void = { _ in }) throws -> ModelFingerprint {
    var file = GGUFBytes.sample
    change(&file)
    let path = folder.file("crafted.gguf")
    try Data(file.contents).write(to: URL(fileURLWithPath: path))
    return try GGUFFile(path: path).fingerprint()
  }

  private func set(_ file: inout GGUFBytes, _ key: String, _ value: [UInt8]) {
    file.keys.removeAll { $0.name == key }
    file.keys.append((key, value))
  }

  @Test func whatOnlyDescribesTheFileDoesNotCount() throws {
    let one = try fingerprint()
    #expect(try one == fingerprint { set(&$0, "general.name", GGUFBytes.string("another")) })
    #expect(try one == fingerprint { set(&$0, "general.url", GGUFBytes.string("https://example.com")) })
    #expect(try one == fingerprint { set(&$0, "quantize.imatrix.file", GGUFBytes.string("file")) })
    #expect(try one == fingerprint { $0.keys.reverse() })
    #expect(try one == fingerprint { $0.version = 2 })
  }

  @Test func whatDiffersIsNamed() throws {
    let one = try fingerprint()
    func expect(_ words: String, _ change: (inout GGUFBytes) -> Void) throws {
      let other = try fingerprint(change)
      #expect(other.text != one.text && other.difference(from: one) == words)
    }
    for byte in 0..<80 { try expect("its weights differ") { $0.data[byte] ^= 1 } }
    try expect("its weights differ") { $0.tensors[0].name = "token_embd.bias" }
    try expect("its weights differ") { $0.tensors[0].shape = [5, 4] }
    // I32 has F32's size.
    try expect("its weights differ") { $0.tensors[0].type = 26 }
    try expect("its tokenizer differs") { set(&$0, "tokenizer.ggml.bos_token_id", GGUFBytes.number(UInt32(2), 4)) }
    try expect("its tokenizer differs") { $0.keys[11].value = GGUFBytes.list(["<unk>", "<s>", "</s>", "a", "c"]) }
    try expect("its chat template differs") { set(&$0, "tokenizer.chat_template", GGUFBytes.string("{{ x }}")) }
    try expect("its chat template differs") { $0.keys.removeAll { $0.name == "tokenizer.chat_template" } }
    try expect("its architecture's settings differ") { set(&$0, "general.architecture", GGUFBytes.string("qwen2")) }
    try expect("its architecture's settings differ") {
      set(&$0, "llama.rope.freq_base", GGUFBytes.number(Float(1).bitPattern, 6))
    }
    try expect("its weights, tokenizer and chat template differ") {
      $0.data[0] ^= 1
      set(&$0, "tokenizer.ggml.bos_token_id", GGUFBytes.number(UInt32(2), 4))
      set(&$0, "tokenizer.chat_template", GGUFBytes.string("{{ x }}"))
    }
  }

  @Test func theEarlierKindIsStillKnown() throws {
    let path = try folder.model()
    // As the first release computed it.
    #expect(try GGUFFile(path: path).earlierFingerprint() == "4e648c878d61dfc2")
    #expect(ModelFingerprint.isEarlier("4e648c878d61dfc2"))
    #expect(try !ModelFingerprint.isEarlier(GGUFFile(path: path).fingerprint().text))
  }

  /// Of a model of any size some tens of megabytes are read, and of each tensor its first and last bytes.
  @Test(arguments: [1, 12, 150, 723, 5000, 20000]) func littleIsRead(_ tensors: Int) {
    for bytes in [1, 4096, 4097, 65536, 65537, 1 << 20, 58_720_256, 8 << 30] {
      let ranges = TensorSamples.ranges(of: bytes, tensors: tensors)
      #expect(ranges.first?.lowerBound == 0 && ranges.last?.upperBound == bytes)
      #expect(zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
      let read = ranges.reduce(0) { $0 + $1.count } * tensors
      #expect(read <= max(48 << 20, tensors * 3 * 4096))
      #expect(ranges.count * tensors <= max(4096, 3 * tensors))
    }
    #expect(TensorSamples.ranges(of: 0, tensors: tensors) == [0..<0])
  }

  /// The examples of FIPS 180-4, and messages in parts of every length.
  @Test func sha256() {
    func digest(_ parts: [[UInt8]]) -> String {
      var sum = SHA256()
      for part in parts { sum.update(part) }
      return sum.hexadecimal()
    }
    #expect(digest([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(digest([Array("abc".utf8)]) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(
      digest([Array("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8)])
        == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
    #expect(
      digest([[UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000)])
        == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    let message = (0..<200).map { UInt8($0) }
    for length in 0...200 {
      let part = Array(message.prefix(length))
      for first in [0, 1, 63, 64, 65, 130] where first <= length {
        #expect(digest([part]) == digest([Array(part.prefix(first)), Array(part.dropFirst(first))]))
      }
    }
  }
}
