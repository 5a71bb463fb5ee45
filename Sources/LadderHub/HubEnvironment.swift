import Foundation
import LadderCore

/// Where the hub is, where its files are kept, and who asks: what the hub's own library and llama.cpp read from the
/// environment.
public struct HubEnvironment: Sendable {
  /// Of models: `HF_ENDPOINT` (also llama.cpp's `MODEL_ENDPOINT`), or https://huggingface.co.
  public var endpoint: String
  /// Of rows of data sets: `HF_DATASETS_SERVER`, or what belongs to the endpoint.
  public var datasetsServer: String
  /// The folder that files go to: `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
  public var cache: String
  /// Folders with files of the same layout that are looked into besides: llama.cpp's `LLAMA_CACHE`.
  public var otherCaches: [String]
  /// Who asks: `HF_TOKEN`, or the contents of `HF_TOKEN_PATH` or of `token` in `HF_HOME`.
  public var token: String?
  /// `HF_HUB_OFFLINE`: only what is in the cache is there.
  public var isOffline: Bool

  /// - Parameter variables: the process's own by default.
  /// - Throws: `usage` where the environment names an address that is none.
  public init(_ variables: [String: String] = ProcessInfo.processInfo.environment) throws(LadderError) {
    func value(_ names: String...) -> String? {
      names.lazy.compactMap { variables[$0] }.first { !$0.isEmpty }
    }
    func folder(_ text: String) -> String { (text as NSString).expandingTildeInPath }
    func address(_ name: String, _ text: String) throws(LadderError) -> String {
      guard let url = URL(string: text), ["http", "https"].contains(url.scheme), url.host?.isEmpty == false else {
        throw LadderError(.usage, "\(name) is \(text.shown); write an address like https://huggingface.co")
      }
      return text.hasSuffix("/") ? String(text.dropLast()) : text
    }
    let home = value("HOME") ?? NSHomeDirectory()
    let hub = folder(
      value("HF_HOME") ?? (value("XDG_CACHE_HOME") ?? home + "/.cache") + "/huggingface")
    endpoint = try address("HF_ENDPOINT", value("HF_ENDPOINT", "MODEL_ENDPOINT") ?? "https://huggingface.co")
    // As the hub's own library for data sets finds it.
    datasetsServer = try address(
      "HF_DATASETS_SERVER",
      value("HF_DATASETS_SERVER")
        ?? endpoint.replacingOccurrences(of: "huggingface.co", with: "datasets-server.huggingface.co"))
    cache = folder(value("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") ?? hub + "/hub")
    otherCaches = [value("LLAMA_CACHE").map(folder)].compactMap { $0 }.filter { [cache] in $0 != cache }
    isOffline = ["1", "true", "yes", "on"].contains(value("HF_HUB_OFFLINE")?.lowercased())
    let written =
      value("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") ?? Self.text(value("HF_TOKEN_PATH").map(folder) ?? hub + "/token")
    token = try Self.token(written)
  }

  private static func text(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }

  /// - Throws: `usage` for what can stand in no header.
  private static func token(_ text: String?) throws(LadderError) -> String? {
    guard let token = text?.trimmingCharacters(in: .whitespacesAndNewlines), !token.isEmpty else { return nil }
    guard token.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
      throw LadderError(.usage, "the hub's token holds characters that no token has; set HF_TOKEN again")
    }
    return token
  }
}
