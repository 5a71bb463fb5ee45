import Foundation
import Synchronization

/// Counts what is under way, texts or bytes, and refuses more than fit.
final class Admission: Sendable {
  /// A place, given back when nobody holds it any more.
  final class Place: Sendable {
    private let admission: Admission
    private let taken = Mutex(0)

    fileprivate init(_ admission: Admission) { self.admission = admission }

    deinit { admission.leave(taken.withLock { $0 }) }

    /// Takes more.
    /// - Throws: `APIError` where there is no room; one place always finds some where there is no other.
    func take(_ count: Int) throws {
      try taken.withLock { taken in
        try admission.add(count, beside: taken)
        taken += count
      }
    }
  }

  private let most: Int
  private let held = Mutex(0)

  /// - Parameter most: at once, of all places, waiting ones included.
  init(most: Int) { self.most = most }

  /// What all places hold.
  var count: Int { held.withLock { $0 } }

  /// - Throws: as `Place.take`.
  func enter(_ count: Int) throws -> Place {
    let place = Place(self)
    try place.take(count)
    return place
  }

  private func add(_ count: Int, beside own: Int) throws {
    try held.withLock { held in
      guard held == own || held + count <= most else { throw APIError.tooBusy }
      held += count
    }
  }

  private func leave(_ count: Int) { held.withLock { $0 -= count } }
}
