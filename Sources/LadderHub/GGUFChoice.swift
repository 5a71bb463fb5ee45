import LadderCore

/// Which of a repository's files are the model that a name means: llama.cpp's own choice.
enum GGUFChoice {
  /// The quantisations that are taken, where a name says none, before any other file.
  private static let preferred = ["Q4_K_M", "Q8_0"]

  /// The files of the model in their order, of several where it was split; nil where there is none of the choice.
  /// - Parameters:
  ///   - choice: a quantisation, or a file's name; nil takes Q4_K_M, else Q8_0, else the first.
  ///   - isStrict: without a choice only the first of them will do.
  static func files(_ paths: [String], choice: String?, isStrict: Bool = false) throws -> [String]? {
    let models = paths.filter(isModel)
    guard let first = first(of: models, choice, isStrict) else { return nil }
    guard let split = Split(first) else { return [first] }
    let wanted = (1...split.count).map { Split.path(split.name, $0, split.count) }
    if let lacking = wanted.first(where: { !models.contains($0) }) {
      throw LadderError(.data, "the model in \(split.count) files has no \(lacking.shown); name another of its files")
    }
    return wanted
  }

  private static func first(of models: [String], _ choice: String?, _ isStrict: Bool) -> String? {
    if let choice, choice.lowercased().hasSuffix(".gguf") { return models.first { $0 == choice } }
    let starts = models.filter { Split($0).map { $0.number == 1 } ?? true }
    for tag in choice.map({ [$0] }) ?? (isStrict ? Array(preferred.prefix(1)) : preferred) {
      let tag = tag.lowercased()
      // As a word of the name before a part of one: f16 is in bf16.
      for before in ["-", ".", "/", ""] {
        if let found = starts.first(where: { path in
          let path = "/" + path.lowercased()
          return path.contains(before + tag + ".") || path.contains(before + tag + "-")
        }) {
          return found
        }
      }
    }
    return choice == nil && !isStrict ? starts.first : nil
  }

  /// What a file's name says of its quantisation, to list what there is.
  static func choices(_ paths: [String]) -> [String] {
    var seen = Set<String>()
    return paths.filter(isModel).compactMap { path in
      let name = (Split(path)?.name ?? String(path.dropLast(".gguf".count))).split(separator: "/").last ?? ""
      let tag = name.split { $0 == "-" || $0 == "." }.last.map(String.init) ?? ""
      let isTag =
        tag.contains(where: \.isNumber) && tag.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
      let shown = isTag && tag.count <= 10 ? tag : path
      return seen.insert(shown).inserted ? shown : nil
    }
  }

  private static func isModel(_ path: String) -> Bool {
    guard path.hasSuffix(".gguf") else { return false }
    let name = path.split(separator: "/").last ?? ""
    return !["mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"].contains { name.contains($0) }
  }

  /// `NAME-00001-of-00003.gguf`.
  struct Split {
    let name: String
    let number: Int
    let count: Int

    init?(_ path: String) {
      guard path.hasSuffix(".gguf") else { return nil }
      let parts = path.dropLast(5).split(separator: "-", omittingEmptySubsequences: false)
      guard parts.count >= 4, parts[parts.count - 2] == "of" else { return nil }
      let digits = [parts[parts.count - 3], parts[parts.count - 1]]
      guard digits.allSatisfy({ $0.utf8.count == 5 }), let number = Int(digits[0]), let count = Int(digits[1]),
        count > 1, (1...count).contains(number)
      else { return nil }
      name = parts.dropLast(3).joined(separator: "-")
      self.number = number
      self.count = count
    }

    static func path(_ name: String, _ number: Int, _ count: Int) -> String {
      func digits(_ value: Int) -> String {
        String(repeating: "0", count: max(0, 5 - String(value).count)) + String(value)
      }
      return "\(name)-\(digits(number))-of-\(digits(count)).gguf"
    }
  }
}
