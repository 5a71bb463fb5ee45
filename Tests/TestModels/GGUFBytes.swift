/// A GGUF file put together byte by byte, so that it may be wrong wherever a test wants it to be.
package struct GGUFBytes {
  package struct Tensor {
    package var name: String
    package var shape: [UInt64]
    /// F32 unless said otherwise.
    package var type: UInt32 = 0
    package var offset: UInt64

    package init(_ name: String, _ shape: [UInt64], offset: UInt64 = 0) {
      self.name = name
      self.shape = shape
      self.offset = offset
    }
  }

  package var version: UInt32 = 3
  package var tensorCount: UInt64?
  package var keyCount: UInt64?
  /// A key with its type and value as they stand in the file.
  package var keys: [(name: String, value: [UInt8])] = []
  package var tensors: [Tensor] = []
  /// Behind the header and its padding.
  package var data: [UInt8] = []

  package init() {}

  /// What a small model has: keys of every kind, and three tensors.
  package static var sample: GGUFBytes {
    var file = GGUFBytes()
    file.keys = [
      ("general.architecture", string("llama")), ("general.name", string("sample")),
      ("llama.block_count", number(UInt32(1), 4)), ("llama.context_length", number(UInt64(64), 10)),
      ("llama.embedding_length", number(UInt32(4), 4)), ("llama.attention.head_count", number(UInt32(1), 4)),
      ("llama.rope.freq_base", number(Float(10000).bitPattern, 6)), ("llama.flag", number(UInt8(1), 7)),
      ("llama.small", number(Int8(-1), 1)), ("llama.double", number(Double(0.5).bitPattern, 12)),
      ("tokenizer.ggml.model", string("llama")),
      ("tokenizer.ggml.tokens", list(["<unk>", "<s>", "</s>", "a", "b"])),
      (
        "tokenizer.ggml.scores",
        bytes(UInt32(9)) + bytes(UInt32(6)) + bytes(UInt64(5)) + [UInt8](repeating: 0, count: 20)
      ),
      ("tokenizer.chat_template", string("{% for m in messages %}{{ m.content }}{% endfor %}")),
    ]
    file.tensors = [
      Tensor("token_embd.weight", [4, 5]), Tensor("output_norm.weight", [4], offset: 96),
      Tensor("blk.0.attn_q.weight", [4, 4], offset: 128),
    ]
    file.data = (0..<192).map { UInt8(truncatingIfNeeded: 7 * $0) }
    return file
  }

  package var contents: [UInt8] {
    var file = Array("GGUF".utf8) + Self.bytes(version) + Self.bytes(tensorCount ?? UInt64(tensors.count))
    file += Self.bytes(keyCount ?? UInt64(keys.count))
    for key in keys { file += Self.text(key.name) + key.value }
    for tensor in tensors {
      file += Self.text(tensor.name) + Self.bytes(UInt32(tensor.shape.count))
      for size in tensor.shape { file += Self.bytes(size) }
      file += Self.bytes(tensor.type) + Self.bytes(tensor.offset)
    }
    return file + [UInt8](repeating: 0, count: (32 - file.count % 32) % 32) + data
  }

  package static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  package static func text(_ text: String) -> [UInt8] { bytes(UInt64(text.utf8.count)) + Array(text.utf8) }

  /// A value of one of GGUF's types, by its number.
  package static func number(_ value: some FixedWidthInteger, _ type: UInt32) -> [UInt8] { bytes(type) + bytes(value) }
  package static func string(_ text: String) -> [UInt8] { bytes(UInt32(8)) + Self.text(text) }
  package static func list(_ texts: [String]) -> [UInt8] {
    bytes(UInt32(9)) + bytes(UInt32(8)) + bytes(UInt64(texts.count)) + texts.flatMap(text)
  }
}
