import Foundation

/// Ends the process at the second Ctrl-C or SIGTERM: the first lets running requests end.
final class SecondSignal: @unchecked Sendable {
  private var sources: [any DispatchSourceSignal] = []
  private let lock = NSLock()
  private var count = 0

  init() {
    sources = [SIGINT, SIGTERM].map { number in
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler { [weak self] in self?.came() }
      source.resume()
      return source
    }
  }

  private func came() {
    let times = lock.withLock {
      count += 1
      return count
    }
    if times > 1 { _exit(130) }
    Terminal.note("ending once running requests are answered (again to end at once)")
  }

  func cancel() { for source in sources { source.cancel() } }
}
