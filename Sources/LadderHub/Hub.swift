import Foundation
import LadderCore

/// Models and data sets from the hub, in its own cache.
///
///     let path = try await Hub(HubEnvironment()).model(HubName("hf:ggml-org/gemma-3-270m-GGUF"))
public struct Hub: Sendable {
  /// Where the hub and its files are.
  public let environment: HubEnvironment
  let client: HubClient

  /// - Parameter report: called with progress, from any thread.
  public init(_ environment: HubEnvironment, report: @escaping @Sendable (HubEvent) -> Void = { _ in }) {
    self.environment = environment
    client = HubClient(environment: environment, report: report)
  }

  /// The path of a model's file, of the first of several; fetched where it is not in the cache.
  /// - Parameter refreshes: ask the hub also where the cache has the model, and take what is newer.
  /// - Throws: `missing` where the hub has no such model or file; `inputOutput` where it cannot be reached, or the disk
  ///   has no room; `data` where what comes is not whole; `interrupted` where the task is cancelled. What was fetched by
  ///   then is kept, and the next call goes on from there.
  public func model(_ name: HubName, refreshes: Bool = false) async throws(LadderError) -> String {
    guard case .model(let repository, let choice) = name else {
      throw LadderError(.usage, "a data set is no model; name a model as hf:OWNER/REPO")
    }
    let cache = HubCache(root: environment.cache, repository: repository)
    return try await kept {
      try await ModelPull(client: client, cache: cache, choice: choice).run(refreshes: refreshes)
    }
  }

  /// Fetches the rows of a data set into a file of JSON lines, nested values as they are; columns of images and sounds
  /// are left out, and the notes say so.
  /// - Parameters:
  ///   - out: the file; nil is one in the folder at hand, named by the data set.
  ///   - limit: so many of the first rows.
  /// - Throws: as `model`; `usage` where the file is there, or the name leaves several parts to choose from; `data`
  ///   where nothing of it is text.
  public func rows(of name: HubName, to out: String? = nil, limit: Int? = nil) async throws(LadderError) -> DatasetRows
  {
    guard case .dataset(let repository, let configuration, let split) = name else {
      throw LadderError(.usage, "a model is no data set; name one as hf:datasets/OWNER/NAME")
    }
    let pull = DatasetPull(
      client: client, dataset: repository, configuration: configuration, split: split, out: out, limit: limit)
    return try await kept { try await pull.run() }
  }

  private func kept<Result>(_ body: () async throws -> Result) async throws(LadderError) -> Result {
    do { return try await body() } catch let error as LadderError where error.kind == .interrupted {
      throw LadderError(.interrupted, "interrupted; what was fetched is kept, run the same command again to go on")
    } catch {
      throw LadderError(any: error)
    }
  }
}
