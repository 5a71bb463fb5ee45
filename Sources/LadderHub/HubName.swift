import Foundation
import LadderCore

/// What is meant at the hub: `hf:OWNER/REPO[:QUANT]`, or `hf:datasets/OWNER/NAME[/CONFIG][:SPLIT]`.
public enum HubName: Sendable, Equatable {
  /// A model's repository, and which of its GGUF files: by a quantisation like Q4_K_M, or by the file's name.
  case model(repository: String, choice: String?)
  /// A data set, and which of its parts.
  case dataset(repository: String, configuration: String?, split: String?)

  /// Whether a text names something at the hub, and not a file.
  public static func isOne(_ text: String) -> Bool { text.hasPrefix("hf:") }

  /// - Throws: `usage` where the text is no such name.
  public init(_ text: String) throws(LadderError) {
    let rest = text.dropFirst("hf:".count)
    let parts = rest.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let choice = parts.count > 1 ? parts[1] : nil
    var path = (parts.first ?? "").split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    let isData = path.first == "datasets" && path.count > 2
    if isData { path.removeFirst() }
    guard Self.isOne(text), (isData ? 2...3 : 2...2).contains(path.count), path.allSatisfy(Self.isPart),
      choice.map({ !$0.isEmpty && Self.isChoice($0) }) ?? true
    else {
      throw LadderError(
        .usage,
        "\(text.shown) names nothing at the hub; write hf:OWNER/REPO, hf:OWNER/REPO:Q8_0, "
          + "hf:datasets/OWNER/NAME:train or hf:datasets/OWNER/NAME/CONFIG:train")
    }
    let repository = path[0] + "/" + path[1]
    self =
      isData
      ? .dataset(repository: repository, configuration: path.count > 2 ? path[2] : nil, split: choice)
      : .model(repository: repository, choice: choice)
  }

  private static func isPart(_ text: String) -> Bool {
    guard let first = text.utf8.first, let last = text.utf8.last, text.utf8.count <= 128 else { return false }
    let isInner: (UInt8) -> Bool = { "-_.".utf8.contains($0) || isAlphanumeric($0) }
    return text.utf8.allSatisfy(isInner) && ![first, last].contains(UInt8(ascii: "."))
      && first != UInt8(ascii: "-") && !text.contains("..") && !text.contains("--")
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
  }

  private static func isChoice(_ text: String) -> Bool {
    text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F } && !text.contains("..")
  }
}
