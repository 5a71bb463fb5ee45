import LadderCore
import LadderInference

/// The texts of one request, as they are written side by side.
struct Choices: Sendable {
  /// An event, and the place of its text among the request's.
  typealias Events = AsyncThrowingStream<(choice: Int, event: GenerationEngine.Event), any Error>

  let events: Events
  let count: Int
  private let producer: Task<Void, Never>

  /// - Parameters:
  ///   - texts: what is to be continued, one for each choice.
  ///   - seconds: after which the stream throws `APIError.overTime`.
  init(
    _ engine: GenerationEngine, _ texts: [(prompt: PreparedPrompt, options: GenerationOptions)], seconds: Double
  ) {
    count = texts.count
    let (events, continuation) = Events.makeStream()
    producer = Task {
      do {
        try await withThrowingTaskGroup(of: Bool.self) { group in
          for (choice, text) in texts.enumerated() {
            group.addTask {
              for try await event in engine.generate(text.prompt, options: text.options) {
                continuation.yield((choice, event))
              }
              try Task.checkCancellation()
              return true
            }
          }
          group.addTask {
            try await Task.sleep(for: .seconds(seconds))
            throw APIError.overTime(seconds)
          }
          for _ in texts { _ = try await group.next() }
          group.cancelAll()
        }
        continuation.finish()
      } catch {
        continuation.finish(throwing: error)
      }
    }
    let producer = producer
    continuation.onTermination = { _ in producer.cancel() }
    self.events = events
  }

  /// Gives the texts up.
  func cancel() { producer.cancel() }
}
