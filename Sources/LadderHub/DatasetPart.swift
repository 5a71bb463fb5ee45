import Foundation
import LadderCore
import LadderData

/// One part of a data set: what the hub's server gives the rows of.
struct DatasetPart: Codable, Equatable {
  let dataset: String
  let configuration: String
  let split: String

  /// A file's name for it.
  var fileName: String {
    func plain(_ text: some StringProtocol) -> String {
      String(text.map { $0.isLetter || $0.isNumber || "-_.".contains($0) ? $0 : "_" })
    }
    let name = plain(dataset.split(separator: "/").last ?? ""), split = plain(split)
    return configuration == "default" ? "\(name).\(split).jsonl" : "\(name)-\(plain(configuration)).\(split).jsonl"
  }

  /// The parts that there are, and which of them a name means.
  /// - Parameter data: the server's answer to `splits`.
  static func chosen(
    _ data: Data, _ dataset: String, configuration: String?, split: String?
  ) throws -> DatasetPart {
    struct Answer: Decodable {
      struct Split: Decodable {
        let config: String
        let split: String
      }
      let splits: [Split]
    }
    guard let splits = try? JSONDecoder().decode(Answer.self, from: data).splits, !splits.isEmpty else {
      throw LadderError(.data, "the server for data sets names no parts of \(dataset)")
    }
    let configurations = splits.reduce(into: [String]()) { if !$0.contains($1.config) { $0.append($1.config) } }
    let configuration = try one(
      configurations, configuration, usual: "default", what: "configuration", of: dataset,
      written: "hf:datasets/\(dataset)/NAME")
    let split = try one(
      splits.filter { $0.config == configuration }.map(\.split), split, usual: "train", what: "split", of: dataset,
      written: "hf:datasets/\(dataset)\(configurations.count > 1 ? "/" + configuration.shown : ""):NAME")
    return DatasetPart(dataset: dataset, configuration: configuration, split: split)
  }

  private static func one(
    _ names: [String], _ asked: String?, usual: String, what: String, of dataset: String, written: String
  ) throws -> String {
    let list = names.prefix(20).map(\.shown).joined(separator: ", ") + (names.count > 20 ? ", …" : "")
    if let asked {
      if names.contains(asked) { return asked }
      throw LadderError(.missing, "\(dataset) has no \(what) \(asked.shown); it has \(list)")
    }
    if names.count == 1 { return names[0] }
    if names.contains(usual) { return usual }
    throw LadderError(.usage, "\(dataset) has several \(what)s: name one as \(written): \(list)")
  }
}

/// A page of rows, as the server gives it.
struct DatasetPage {
  /// The rows as JSON, each in one line.
  let rows: [(index: Int, json: JSONText, cut: [String])]
  let columns: [Column]
  let total: Int?
  /// The server has not all of the data set.
  let isPartial: Bool
  let revision: String?

  struct Column {
    let name: String
    /// What it holds that is no text: Image, Audio.
    let medium: String?
    /// The names of the classes that its numbers stand for.
    let classes: [String]?
  }

  /// - Throws: `data` where it is no such page.
  init(_ data: Data, revision: String?) throws {
    let page = try JSONText(data).object
    guard let rows = page["rows"], rows.isList, let features = page["features"], features.isList else {
      throw LadderError(.data, "the server for data sets does not answer with rows")
    }
    self.rows = try rows.elements.map { entry in
      let parts = entry.object
      guard let row = parts["row"], row.isObject, let index = parts["row_idx"].flatMap({ Int($0.source) }) else {
        throw LadderError(.data, "the server for data sets answers with a row that is none")
      }
      return (index, row, parts["truncated_cells"]?.elements.compactMap(\.string) ?? [])
    }
    columns = features.elements.compactMap { feature in
      let parts = feature.object
      guard let name = parts["name"]?.string else { return nil }
      let type = parts["type"]
      return Column(
        name: name, medium: type.flatMap(Self.medium),
        classes: type?.object["_type"]?.string == "ClassLabel"
          ? type?.object["names"]?.elements.compactMap(\.string) : nil)
    }
    total = page["num_rows_total"].flatMap { Int($0.source) }
    isPartial = page["partial"]?.source == "true"
    self.revision = revision
  }

  /// What a type holds that no line of JSON can, however deep.
  private static func medium(_ type: JSONText) -> String? {
    if let kind = type.object["_type"]?.string, ["Image", "Audio", "Video", "Pdf", "Nifti"].contains(kind) {
      return kind
    }
    return (type.members.map(\.value) + type.elements).lazy.compactMap(medium).first
  }
}
