import Foundation
import Ladder

/// Ctrl-C in a chat: it ends the answers that are being written, and where there are none the process.
final class ChatInterrupts: @unchecked Sendable {
  private let lock = NSLock()
  private var running: [Int: () -> Void] = [:]
  private var count = 0
  private let source: any DispatchSourceSignal

  /// - Parameter close: called before the process ends.
  init(_ close: @escaping @Sendable () -> Void) {
    signal(SIGINT, SIG_IGN)
    source = DispatchSource.makeSignalSource(signal: SIGINT, queue: .global())
    source.setEventHandler { [weak self] in
      guard let self else { return }
      let answers = lock.withLock { Array(self.running.values) }
      if answers.isEmpty {
        close()
        Terminal.note("")
        _exit(130)
      }
      for cancel in answers { cancel() }
    }
    source.resume()
  }

  func stop() {
    source.cancel()
    signal(SIGINT, SIG_DFL)
  }

  /// Waits for an answer, which Ctrl-C cancels.
  func during<Value>(_ task: Task<Value, any Error>) async throws -> Value {
    let id = lock.withLock {
      count += 1
      running[count] = { task.cancel() }
      return count
    }
    defer { lock.withLock { _ = running.removeValue(forKey: id) } }
    return try await task.value
  }
}
