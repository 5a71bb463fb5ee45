import LadderBackbone

/// Says once that the cache stores no more.
struct CacheNote {
  private let cache: ActivationCache?
  private var said = false

  init(_ cache: ActivationCache?) { self.cache = cache }

  mutating func tell(_ report: (TrainingEvent) -> Void) {
    guard !said, let why = cache?.stopped else { return }
    said = true
    report(.cacheStopped(why))
  }
}
