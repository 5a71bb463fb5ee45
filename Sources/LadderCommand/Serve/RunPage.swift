import Foundation
import Ladder
import LadderServe

/// A page of one run while it trains.
struct RunPage {
  private let task: Task<Void, any Error>

  /// - Parameter port: 0 takes a free one.
  /// - Throws: `usage` where the port is taken.
  init(_ run: RunDirectory, port: Int, language: ModelVocabulary) async throws {
    guard (0...65535).contains(port) else { throw LadderError(.usage, "--page-port must be 0 to 65535") }
    var settings = ServerSettings()
    settings.port = port
    let views = SampleViews(language)
    let server = LadderServer(
      settings, engine: nil, runs: [run.path], dataView: { try await views.view($0, $1) },
      logger: TerminalLog.logger(verbose: false))
    let address: String
    (address, task) = try await server.start()
    Terminal.note("the run's page is \(address)/#runs while it trains")
  }

  func close() { task.cancel() }
}
