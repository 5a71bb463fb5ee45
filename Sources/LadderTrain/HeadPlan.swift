/// Which steps work the head over the whole vocabulary.
struct HeadPlan {
  let cached: Bool
  /// Every sample had its references when the run began.
  var beginsFromReferences = false
  /// Those of other samples can be stored.
  var stores = false
  private var drifts: [HeadDrift] = []

  /// Steps between two that are worked both ways.
  static let interval = 50

  init(cached: Bool) { self.cached = cached }

  var isUseful: Bool { !cached || stores || beginsFromReferences }

  /// The first epoch takes the references, unless they are all there; later ones use them. One step in `interval`, and
  /// the last of each epoch, is worked both ways.
  func use(_ step: Int, perEpoch: Int) -> HeadUse {
    guard cached, isUseful, beginsFromReferences || step >= perEpoch else { return .exact }
    return (step + 1) % Self.interval == 0 || (step + 1) % perEpoch == 0 ? .both : .cached
  }

  mutating func add(_ drift: HeadDrift?) { if let drift { drifts.append(drift) } }

  /// Means over the steps that were worked both ways.
  var drift: (steps: Int, loss: Double, gradient: Double)? {
    let count = Double(drifts.count)
    if drifts.isEmpty { return nil }
    return (drifts.count, drifts.reduce(0) { $0 + $1.loss } / count, drifts.reduce(0) { $0 + $1.gradient } / count)
  }
}
