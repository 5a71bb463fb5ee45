import Foundation

/// How a child learns that its parent is gone: the parent names itself in the child's environment, and the child looks
/// from time to time whether that is still its parent.
enum ParentWatch {
  private static let name = "LADDER_PARENT"

  /// What a parent adds to its children's environment.
  static var environment: [String: String] { [name: String(getpid())] }

  /// Calls `gone`, also more than once, when the parent that started this process as its child has ended; never where
  /// none did.
  /// - Returns: the watch, which ends when it is cancelled.
  static func start(_ gone: @escaping @Sendable () -> Void) -> (any DispatchSourceTimer)? {
    guard let parent = ProcessInfo.processInfo.environment[name].flatMap({ pid_t($0) }) else { return nil }
    let timer = DispatchSource.makeTimerSource(queue: .global())
    timer.setEventHandler { if getppid() != parent { gone() } }
    timer.schedule(deadline: .now(), repeating: .milliseconds(500))
    timer.resume()
    return timer
  }
}
