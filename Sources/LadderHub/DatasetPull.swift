import Foundation
import LadderCore
import LadderData

/// Rows of a data set that were fetched.
public struct DatasetRows: Sendable {
  /// The file: one JSON object a line.
  public var path: String
  /// Its lines.
  public var rows: Int
  /// What a user should know of them.
  public var notes: [String]
}

/// Fetches the rows of a part of a data set, page by page, into a file of JSON lines.
///
/// Until it is whole the file is `OUT.part`; `OUT.part.json` says of what. A line is a row, so that the next try goes on
/// behind the last line.
struct DatasetPull {
  /// What a partial file holds.
  private struct State: Codable, Equatable {
    var part: DatasetPart
    var revision: String?
  }

  static let pageRows = 100

  let client: HubClient
  let dataset: String
  let configuration: String?
  let split: String?
  /// The file; nil is one in the folder at hand, named by the data set.
  let out: String?
  let limit: Int?

  func run() async throws -> DatasetRows {
    guard !client.environment.isOffline else {
      throw LadderError(.missing, "HF_HUB_OFFLINE keeps from fetching \(dataset)")
    }
    let splits = try await client.json(address("splits", ["dataset": dataset]), what: "data set \(dataset)").data
    let part = try DatasetPart.chosen(splits, dataset, configuration: configuration, split: split)
    let path = out ?? part.fileName
    guard !FileManager.default.fileExists(atPath: path) else {
      throw LadderError(.usage, "\(path) is there already; remove it, or name another file as `out`")
    }
    let folder = (path as NSString).deletingLastPathComponent
    if !folder.isEmpty { try DurableFile.makeFolder(folder) }
    let file = try PartialFile(path + ".part")
    guard file.lock() else { throw LadderError(.usage, "another process fetches \(path); wait for it") }
    let earlier: State? = DurableFile.value(path + ".part.json")
    if file.count > 0, earlier?.part != part {
      throw LadderError(
        .usage, "\(path).part holds something else; remove it, or name another file as `out`")
    }
    var tries = 0
    while true {
      do { return try await fetch(part, into: file, path, earlier?.revision) } catch is Changed {
        tries += 1
        guard tries < 3 else {
          throw LadderError(.data, "\(dataset) changes while it is fetched; try it again later")
        }
        client.report(.note("\(dataset) has changed; once more from its start"))
        try file.truncate(to: 0)
      }
    }
  }

  /// The data set is not what the rows so far come from.
  private struct Changed: Error {}

  /// - Parameter earlier: the revision that the rows so far come from.
  private func fetch(
    _ part: DatasetPart, into file: PartialFile, _ path: String, _ earlier: String?
  ) async throws -> DatasetRows {
    let statePath = path + ".part.json"
    var done = try wholeLines(file), length = Self.pageRows
    if let limit, done > limit {
      throw LadderError(
        .usage,
        "\(path).part holds \(done) rows of it, more than `limit`; ask for as many, or name another file as `out`")
    }
    if done > 0 { client.report(.note("going on behind row \(done)")) }
    var revision = done > 0 ? earlier : nil
    var columns: RowColumns?, meter: ProgressMeter?, isPartial = false
    while done < limit ?? .max {
      let page: DatasetPage
      do {
        page = try await self.page(part, from: done, count: min(length, (limit ?? .max) - done))
      } catch is HubClient.TooLarge where length > 1 {
        length = max(1, length / 10)
        continue
      } catch is HubClient.TooLarge {
        throw LadderError(.data, "\(dataset): row \(done + 1) is larger than its server gives")
      }
      if let now = page.revision, now != revision {
        if done > 0 { throw Changed() }
        revision = now
      }
      if columns == nil {
        columns = try RowColumns(page.columns, of: dataset)
        try DurableFile.write(statePath, json: State(part: part, revision: revision))
        let total = [page.total, limit].compactMap { $0 }.min()
        meter = ProgressMeter(path, from: done, of: total, countsRows: true, report: client.report)
      }
      if page.rows.isEmpty {
        guard let total = page.total, done < total, !page.isPartial else { break }
        throw LadderError(
          .inputOutput,
          "\(dataset): its server gives nothing behind row \(done) of \(total); the same command goes on from there")
      }
      if let cut = page.rows.first(where: { !(columns?.kept($0.cut).isEmpty ?? true) }) {
        guard length == 1 else {
          length = max(1, length / 10)
          continue
        }
        throw LadderError(
          .data, "\(dataset): the server cuts row \(cut.index + 1) short (\(cut.cut.joined(separator: ", ").shown))")
      }
      for row in page.rows {
        guard row.index == done else { throw LadderError(.data, "\(dataset): the server leaves out row \(done + 1)") }
        try columns?.line(row.json).withUnsafeBytes { try file.append($0) }
        done += 1
      }
      isPartial = page.isPartial
      meter?.show(done)
      try Cancellation.check()
      if let total = page.total, done >= total { break }
      length = min(Self.pageRows, 2 * length)
    }
    if done == 0 { throw LadderError(.data, "\(dataset) has no rows in \(part.split)") }
    try file.finish(as: path)
    unlink(statePath)
    var notes = columns?.notes ?? []
    if isPartial, limit == nil { notes.append("the server has only the first \(done) rows of \(dataset)") }
    return DatasetRows(path: path, rows: done, notes: notes)
  }

  private func page(_ part: DatasetPart, from offset: Int, count: Int) async throws -> DatasetPage {
    let url = address(
      "rows",
      [
        "dataset": part.dataset, "config": part.configuration, "split": part.split, "offset": String(offset),
        "length": String(count),
      ])
    let (data, _, answer) = try await client.json(url, what: "data set \(dataset)")
    return try DatasetPage(data, revision: answer.header("X-Revision"))
  }

  private func address(_ path: String, _ query: KeyValuePairs<String, String>) -> URL {
    var allowed = CharacterSet.alphanumerics.intersection(
      CharacterSet(charactersIn: Unicode.Scalar(0)...Unicode.Scalar(0x7F)))
    allowed.insert(charactersIn: "-_.~")
    let items = query.map { "\($0)=\($1.addingPercentEncoding(withAllowedCharacters: allowed) ?? "")" }
    let text = "\(client.environment.datasetsServer)/\(path)?\(items.joined(separator: "&"))"
    return URL(string: text) ?? URL(fileURLWithPath: "/")
  }

  /// Counts the lines that an earlier try left, and cuts what is none.
  private func wholeLines(_ file: PartialFile) throws -> Int {
    var lines = 0, place = 0, end = 0
    try file.read { bytes in
      for byte in bytes {
        place += 1
        if byte == UInt8(ascii: "\n") {
          lines += 1
          end = place
        }
      }
    }
    try file.truncate(to: end)
    return lines
  }
}

/// Which columns become keys of a line.
private struct RowColumns {
  /// Each kept column's name as JSON.
  private let names: [String: [UInt8]]
  private let leftOut: [DatasetPage.Column]
  private let classes: [DatasetPage.Column]

  /// - Throws: `data` where none is left.
  init(_ columns: [DatasetPage.Column], of dataset: String) throws {
    leftOut = columns.filter { $0.medium != nil }
    classes = columns.filter { $0.classes != nil }
    let kept = columns.filter { $0.medium == nil }
    guard !kept.isEmpty else {
      let media = Set(leftOut.compactMap(\.medium)).sorted().joined(separator: ", ")
      throw LadderError(
        .data, "\(dataset) holds nothing that is text: its columns are \(media.isEmpty ? "none" : media)")
    }
    names = try Dictionary(
      kept.map { ($0.name, [UInt8](try JSONEncoder().encode($0.name))) }, uniquingKeysWith: { $1 })
  }

  func kept(_ columns: [String]) -> [String] { columns.filter { names[$0] != nil } }

  /// A row as a line; numbers and nested values stay as the server writes them.
  func line(_ row: JSONText) -> [UInt8] {
    if leftOut.isEmpty { return row.compact + [0x0A] }
    var line = [UInt8(ascii: "{")]
    for (name, value) in row.members {
      guard let name = names[name] else { continue }
      if line.count > 1 { line.append(UInt8(ascii: ",")) }
      line += name + [UInt8(ascii: ":")] + value.compact
    }
    return line + [UInt8(ascii: "}"), 0x0A]
  }

  var notes: [String] {
    leftOut.map { "column \($0.name.shown) is left out: it holds \($0.medium ?? "")" }
      + classes.map { column in
        let names = (column.classes ?? []).enumerated().prefix(10).map { "\($0) \($1.shown)" }.joined(separator: ", ")
        return "column \(column.name.shown) holds classes by their numbers: \(names)"
          + ((column.classes?.count ?? 0) > 10 ? ", …" : "")
      }
  }
}
