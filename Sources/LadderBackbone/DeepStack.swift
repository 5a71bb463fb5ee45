import Foundation

/// Room for what calls itself once for each letter or bracket of a text: a usual stack ends after some thousands.
enum DeepStack {
  /// Calls `body` on a thread with that many bytes of stack beside a usual one's.
  static func with<Result>(bytes: Int, _ body: @escaping () -> Result) -> Result {
    nonisolated(unsafe) let body = body
    nonisolated(unsafe) var result: Result?
    let done = DispatchSemaphore(value: 0)
    let thread = Thread {
      result = body()
      done.signal()
    }
    // A size that is no multiple of a page is refused on macOS.
    thread.stackSize = (1 << 20) + (bytes + 0xffff) & ~0xffff
    thread.start()
    done.wait()
    // The thread has set it.
    return result.unsafelyUnwrapped
  }
}
