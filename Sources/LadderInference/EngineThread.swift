import Foundation

/// A thread of its own for an actor's jobs: its long computations keep none of the program's other tasks waiting.
final class EngineThread: SerialExecutor {
  private let jobs = Jobs()

  init(name: String) {
    let thread = Thread { [jobs] in
      while let (job, executor) = jobs.next() { job.runSynchronously(on: executor) }
    }
    thread.name = name
    thread.stackSize = 8 << 20
    thread.start()
  }

  deinit { jobs.close() }

  func enqueue(_ job: consuming ExecutorJob) { jobs.add(UnownedJob(job), asUnownedSerialExecutor()) }
}

/// Jobs in the order of their coming.
private final class Jobs: @unchecked Sendable {
  private let condition = NSCondition()
  private var waiting: [(UnownedJob, UnownedSerialExecutor)] = []
  private var isClosed = false

  func add(_ job: UnownedJob, _ executor: UnownedSerialExecutor) {
    condition.lock()
    waiting.append((job, executor))
    condition.signal()
    condition.unlock()
  }

  func close() {
    condition.lock()
    isClosed = true
    condition.signal()
    condition.unlock()
  }

  /// Waits for one; nil once there will be none.
  func next() -> (UnownedJob, UnownedSerialExecutor)? {
    condition.lock()
    defer { condition.unlock() }
    while waiting.isEmpty {
      if isClosed { return nil }
      condition.wait()
    }
    return waiting.removeFirst()
  }
}
