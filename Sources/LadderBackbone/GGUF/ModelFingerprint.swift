import Foundation
import LadderCore

/// Tells models apart by what decides the results: SHA-256 over the metadata and over the tensors' names, types, shapes
/// and samples of their bytes, a part for each thing that can differ.
///
/// Of the metadata, what only describes the file does not count: `general.*` but the architecture, `split.*`, and
/// `quantize.*`. A model has the same fingerprint in one file and in several. At most some tens of megabytes are read,
/// however large it is: a changed number in a large tensor is likely to be missed, another training or quantisation of
/// the model is not. No protection against a forger.
package struct ModelFingerprint: Codable, Sendable, Equatable {
  /// Names, types, shapes and samples of the tensors.
  package var weights: String
  /// `tokenizer.*`, the chat templates aside.
  package var tokenizer: String
  /// `tokenizer.chat_template*`.
  package var template: String
  /// The rest of the metadata: the architecture and its sizes.
  package var settings: String

  private static let prefix = "v2-"

  /// All of it in one word.
  package var text: String {
    var sum = SHA256()
    for part in [weights, tokenizer, template, settings] { sum.update(Array(part.utf8)) }
    return Self.prefix + sum.hexadecimal().prefix(32)
  }

  /// Whether `text` is a fingerprint of the first kind, 64 bits over the file's first megabyte and some of its pages.
  package static func isEarlier(_ text: String) -> Bool { !text.hasPrefix(prefix) }

  /// What a user should know where a file holds a fingerprint of the first kind; nil where it does not.
  package static func note(on text: String, in path: String) -> String? {
    guard isEarlier(text) else { return nil }
    return "\(path) was written before fingerprints covered the whole model: only the earlier, weaker one is compared"
  }

  /// What differs from another model's, in words: "its weights and chat template differ".
  package func difference(from other: ModelFingerprint) -> String {
    var names: [String] = []
    if weights != other.weights { names.append("weights") }
    if tokenizer != other.tokenizer { names.append("tokenizer") }
    if template != other.template { names.append("chat template") }
    if settings != other.settings { names.append("architecture's settings") }
    let list = names.count < 2 ? names.joined() : "\(names.dropLast().joined(separator: ", ")) and \(names.last ?? "")"
    return "its \(list) differ\(names == ["chat template"] || names == ["tokenizer"] ? "s" : "")"
  }
}

extension GGUFFile {
  /// The fingerprint of this model.
  /// - Throws: `inputOutput` where its files cannot be read.
  package func fingerprint() throws -> ModelFingerprint {
    let groups = Dictionary(grouping: headers[0].metadata.keys, by: Self.part)
    func digest(_ part: WritableKeyPath<ModelFingerprint, String>) throws -> String {
      try metadataDigest(groups[part] ?? [])
    }
    return ModelFingerprint(
      weights: try weightsDigest(), tokenizer: try digest(\.tokenizer), template: try digest(\.template),
      settings: try digest(\.settings))
  }

  /// The part that a key counts for; nil for none.
  private static func part(of key: String) -> WritableKeyPath<ModelFingerprint, String>? {
    if key == "general.architecture" { return \.settings }
    if ["general.", "split.", "quantize."].contains(where: key.hasPrefix) { return nil }
    if key.hasPrefix("tokenizer.chat_template") { return \.template }
    return key.hasPrefix("tokenizer.") ? \.tokenizer : \.settings
  }

  private func metadataDigest(_ keys: [String]) throws -> String {
    var sum = SHA256()
    let header = headers[0], reader = try SampleReader(header.path)
    for key in keys.sorted() {
      guard let place = header.metadata[key]?.place else { continue }
      sum.update(key.utf8.count)
      sum.update(Array(key.utf8))
      sum.update(place.count)
      try reader.read(place) { sum.update($0) }
    }
    return String(sum.hexadecimal().prefix(32))
  }

  private func weightsDigest() throws -> String {
    var sum = SHA256()
    var readers: [String: SampleReader] = [:]
    for tensor in tensors.sorted(by: { $0.name < $1.name }) {
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      let title = "\(tensor.name) \(tensor.type) [\(shape)]"
      sum.update(title.utf8.count)
      sum.update(Array(title.utf8))
      let reader = try readers[tensor.path] ?? SampleReader(tensor.path)
      readers[tensor.path] = reader
      for range in TensorSamples.ranges(of: tensor.bytes, tensors: tensors.count) {
        try reader.read((tensor.offset + range.lowerBound)..<(tensor.offset + range.upperBound)) { sum.update($0) }
      }
    }
    return String(sum.hexadecimal().prefix(32))
  }

  /// The fingerprint of the first kind, which earlier runs and caches hold: 64 bits (FNV-1a) over the header's first
  /// megabyte and over pages sampled evenly from the data, of the first file alone.
  package func earlierFingerprint() throws -> String {
    let header = headers[0], reader = try SampleReader(header.path), size = header.bytes
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    func mix(_ bytes: some Sequence<UInt8>) { for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 } }
    let start = header.tensors.map(\.offset).min() ?? size
    mix(Array("\(size) \(header.tensors.count)".utf8))
    try reader.read(0..<min(start, 1 << 20)) { mix($0) }
    let pages = 256
    for page in 0..<pages {
      let place = start + (size - start) / pages * page
      try reader.read(place..<min(size, place + 4096)) { mix($0) }
    }
    return String(format: "%016llx", hash)
  }
}

/// Which bytes of a tensor are read: all of a small one; of a large one pieces at its start, at its end and evenly
/// between, the fewer the more tensors there are.
package enum TensorSamples {
  private static let piece = 4096, whole = 1 << 16
  /// Pieces, and bytes of small tensors, of the whole model.
  private static let pieces = 4096, wholes = 1 << 25

  /// - Parameters:
  ///   - bytes: of the tensor.
  ///   - tensors: of the model.
  package static func ranges(of bytes: Int, tensors: Int) -> [Range<Int>] {
    if bytes <= max(3 * piece, min(whole, wholes / max(1, tensors))) { return [0..<bytes] }
    let count = min(max(3, pieces / max(1, tensors)), bytes / piece)  // 3 or more
    return (0..<count).map { index in
      let start = Int((Double(bytes - piece) * Double(index) / Double(count - 1)).rounded(.down))
      return start..<(start + piece)
    }
  }
}

/// Reads pieces of a file.
private final class SampleReader {
  private let path: String
  private let handle: FileHandle
  private static let part = 1 << 20

  init(_ path: String) throws {
    self.path = path
    handle = try GGUFFile.open(path)
  }

  deinit { try? handle.close() }

  /// Calls `body` with the bytes in order, in parts.
  func read(_ range: Range<Int>, _ body: (UnsafeRawBufferPointer) -> Void) throws {
    try withUnsafeTemporaryAllocation(byteCount: max(1, min(Self.part, range.count)), alignment: 16) { buffer in
      var place = range.lowerBound
      while place < range.upperBound {
        let wanted = min(buffer.count, range.upperBound - place)
        let got = pread(handle.fileDescriptor, buffer.baseAddress, wanted, off_t(place))
        if got < 0, errno == EINTR { continue }
        guard got > 0 else { throw LadderError(.inputOutput, "\(path): could not read \(wanted) bytes at \(place)") }
        body(UnsafeRawBufferPointer(rebasing: buffer[..<got]))
        place += got
      }
    }
  }
}
