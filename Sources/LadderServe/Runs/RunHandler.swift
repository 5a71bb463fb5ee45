import Foundation
import Hummingbird
import LadderCore
import LadderTrain

/// What the page reads of training runs.
struct RunHandler: Sendable {
  let store: RunStore
  let catalogue: Catalogue?
  let dataView: LadderServer.DataView?

  private struct List: Encodable { let runs: [RunSummary] }

  func list(_: Request, _: some RequestContext) async throws -> Response {
    var summaries: [RunSummary] = []
    for (name, run) in store.runs() { summaries.append(await summary(name, run)) }
    return try JSON.response(List(runs: summaries.sorted { ($0.updated, $0.name) > ($1.updated, $1.name) }))
  }

  private func summary(_ name: String, _ run: RunDirectory) async -> RunSummary {
    RunSummary(run, name: name, served: await catalogue?.isServed(name) ?? false)
  }

  func run(_ request: Request, _ context: some RequestContext) async throws -> Response {
    let (name, run) = try asked(context)
    let summary = try JSON.data(await summary(name, run))
    // As it was written: the page shows settings of any version.
    let manifest = (try? Data(contentsOf: URL(fileURLWithPath: run.manifestPath))) ?? Data("null".utf8)
    let isWhole = (try? JSONSerialization.jsonObject(with: manifest, options: .fragmentsAllowed)) != nil
    var object = Data("{\"name\":".utf8)
    object += try JSON.data(name) + Data(",\"summary\":".utf8) + summary
    object += Data(",\"manifest\":".utf8) + (isWhole ? manifest : Data("null".utf8)) + Data("}".utf8)
    return JSON.response(object)
  }

  /// The steps behind a place of the file, as they stand there.
  func metrics(_ request: Request, _ context: some RequestContext) async throws -> Response {
    let (_, run) = try asked(context)
    let after = try Self.number("after", request, 0...Int.max) ?? 0
    let newline = UInt8(ascii: "\n")
    // Before the place a line ends, unless the file is another one by now.
    let behind = after == 0 ? nil : FileTail.bytes(run.metricsPath) { _ in UInt64(after - 1) }
    let isKnown = after == 0 || behind?.first == newline
    guard let data = after > 0 && isKnown ? behind?.dropFirst() : FileTail.bytes(run.metricsPath, from: { _ in 0 })
    else {
      return JSON.response(Data("{\"next\":0,\"restarted\":false,\"steps\":[]}".utf8))
    }
    let start = isKnown ? after : 0
    let whole = data[..<(data.lastIndex(of: newline).map { $0 + 1 } ?? data.startIndex)]
    let lines = whole.split(separator: newline)
    var object = Data("{\"next\":\(start + whole.count),\"restarted\":\(!isKnown),\"steps\":[".utf8)
    object += Data(lines.joined(separator: Data(",".utf8))) + Data("]}".utf8)
    return JSON.response(object)
  }

  func data(_ request: Request, _ context: some RequestContext) async throws -> Response {
    let (_, run) = try asked(context)
    guard let dataView else { throw APIError(.notFound, "samples are not shown here", code: "not_found") }
    return JSON.response(try await dataView(run, try Self.number("show", request, 0...100) ?? 5))
  }

  private func asked(_ context: some RequestContext) throws -> (String, RunDirectory) {
    let name = context.parameters.get("run")?.removingPercentEncoding ?? ""
    return (name, try store.run(name))
  }

  private static func number(_ name: String, _ request: Request, _ range: ClosedRange<Int>) throws -> Int? {
    guard let text = request.uri.queryParameters[Substring(name)] else { return nil }
    guard let number = Int(text), range.contains(number) else {
      throw APIError.bad(name, "\(name) must be a whole number from \(range.lowerBound)")
    }
    return number
  }
}
