import CLlama
import LadderCore

/// A model in several files, as llama.cpp's gguf-split writes it: `NAME-00001-of-00003.gguf` and so on. The first has
/// the metadata; each has a table of its own tensors, and the first may have none.
enum SplitModel {
  /// The headers of the model's files in their order, whichever of them `path` is.
  /// - Throws: `missing` where one is not there; `data` where they do not belong together.
  static func headers(from path: String, headerOnly: Bool) throws -> [GGUFHeader] {
    let given = try GGUFHeader(path: path, headerOnly: headerOnly)
    let count = given.integer("split.count", GGUF_TYPE_UINT16) ?? 0
    guard count > 1 else { return [given] }
    guard let number = given.integer("split.no", GGUF_TYPE_UINT16), number < count else {
      throw LadderError(
        .data, "\(path) is one of a model's \(count) files and does not say which; split the model again")
    }
    guard path.hasSuffix(suffix(number, count)) else {
      throw LadderError(
        .data,
        "\(path) is one of a model's \(count) files, which find each other by their names: end its name in "
          + "\(suffix(number, count)) again, and those of the others alike")
    }
    let name = path.dropLast(suffix(number, count).count)
    var headers: [GGUFHeader] = []
    for index in 0..<count {
      headers.append(
        index == number ? given : try part(name + suffix(index, count), index, count, headerOnly: headerOnly))
    }
    try check(headers)
    return headers
  }

  private static func part(_ path: String, _ index: Int, _ count: Int, headerOnly: Bool) throws -> GGUFHeader {
    let header: GGUFHeader
    do {
      header = try GGUFHeader(path: path, headerOnly: headerOnly)
    } catch let error as LadderError where error.kind == .missing {
      throw LadderError(.missing, "no \(path), which is file \(index + 1) of the model's \(count); fetch it too")
    }
    guard header.integer("split.no", GGUF_TYPE_UINT16) == index,
      header.integer("split.count", GGUF_TYPE_UINT16) == count
    else {
      throw LadderError(
        .data, "\(path) is not file \(index + 1) of \(count), as its name says; fetch the model's files again")
    }
    return header
  }

  private static func check(_ headers: [GGUFHeader]) throws {
    var names = Set<String>()
    for header in headers {
      for tensor in header.tensors where !names.insert(tensor.name).inserted {
        throw LadderError(
          .data, "\(header.path) holds \(tensor.name), and so does another of the model's files; fetch them again")
      }
    }
    guard let total = headers[0].integer("split.tensors.count", GGUF_TYPE_INT32) else {
      throw LadderError(
        .data, "\(headers[0].path) does not say how many tensors the model's files hold; split the model again")
    }
    guard total == names.count else {
      throw LadderError(
        .data,
        "\(headers[0].path): the model's \(headers.count) files hold \(names.count) tensors and should hold \(total); "
          + "fetch them again")
    }
  }

  private static func suffix(_ number: Int, _ count: Int) -> String {
    func digits(_ value: Int) -> String {
      String(repeating: "0", count: max(0, 5 - String(value).count)) + String(value)
    }
    return "-\(digits(number + 1))-of-\(digits(count)).gguf"
  }
}
