/// How a step works the head.
package enum HeadUse: Sendable {
  /// Over the whole vocabulary; where there is a cached head, its references are taken.
  case exact
  /// By the rows' references, where they have them.
  case cached
  /// The exact one counts, and is compared with the cached one.
  case both
}

/// How far the cached head was from the exact one in one step.
package struct HeadDrift: Sendable, Equatable {
  /// Mean loss of the cached head less the exact one's, in nats per loss row.
  package var loss = 0.0
  /// ‖cached − exact‖ / ‖exact‖ of the gradients with respect to the head's input.
  package var gradient = 0.0
}
