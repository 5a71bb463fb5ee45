/// Long calls ask here between steps whether the task that runs them was cancelled.
package enum Cancellation {
  package static func check() throws {
    if Task.isCancelled { throw LadderError(.interrupted, "interrupted") }
  }
}
