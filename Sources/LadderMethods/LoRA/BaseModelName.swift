import Foundation
import LadderBackbone

/// What PEFT finds a GGUF's base model by.
package enum BaseModelName {
  /// The hub's name of the Hugging Face model that a GGUF was made from, as its metadata have it; else the GGUF's own
  /// absolute path.
  package static func of(_ file: GGUFFile) -> String {
    hub(file) ?? URL(fileURLWithPath: file.path).standardizedFileURL.path
  }

  /// The hub's name alone; nil where the metadata have none.
  package static func hub(_ file: GGUFFile) -> String? {
    let own = [
      "general.source.repo_url", "general.source.url", "general.source.huggingface.repository", "general.repo_url",
      "general.url",
    ]
    for key in own {
      // A repository of GGUFs has no weights that PEFT can read.
      if let name = file.string(key).flatMap(hubName), !name.lowercased().hasSuffix("gguf") { return name }
    }
    return base(file)
  }

  /// The one model that the metadata name as this one's base, unless this one was fine-tuned from it.
  private static func base(_ file: GGUFFile) -> String? {
    guard file.integer("general.base_model.count") ?? 1 == 1,
      let name = file.string("general.base_model.0.repo_url").flatMap(hubName)
    else { return nil }
    // The converter names a tuned model's kind ("Instruct", "it"), which its own repository's name has too.
    guard let kind = file.string("general.finetune"), !kind.isEmpty else { return name }
    func words(_ text: String) -> [Substring] { text.lowercased().split { !$0.isLetter && !$0.isNumber } }
    return Set(words(name)).isSuperset(of: words(kind)) ? name : nil
  }

  /// `owner/name` of `https://huggingface.co/owner/name/…`, or of the same alone; nil for another site's address.
  package static func hubName(_ text: String) -> String? {
    var rest = Substring(text.trimmingCharacters(in: .whitespaces))
    for scheme in ["https://", "http://"] where rest.hasPrefix(scheme) {
      rest = rest.dropFirst(scheme.count)
      guard let host = ["huggingface.co/", "www.huggingface.co/", "hf.co/"].first(where: rest.hasPrefix) else {
        return nil
      }
      rest = rest.dropFirst(host.count)
    }
    let isAlone = rest.count == text.count
    let parts = rest.split(separator: "/", omittingEmptySubsequences: false)
    func isName(_ part: Substring) -> Bool {
      !part.isEmpty && part.first != "."
        && part.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }
    }
    guard parts.count >= 2, !isAlone || parts.count == 2, parts.prefix(2).allSatisfy(isName),
      !["datasets", "spaces", "models"].contains(parts[0])
    else { return nil }
    return "\(parts[0])/\(parts[1])"
  }
}
