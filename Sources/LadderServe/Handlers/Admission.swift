import Foundation
import Synchronization

/// Counts the requests that are answered or wait, and refuses more than fit.
final class Admission: Sendable {
  /// A place, given back when nobody holds it any more.
  final class Place: Sendable {
    private let admission: Admission
    private let texts: Int

    fileprivate init(_ admission: Admission, _ texts: Int) {
      self.admission = admission
      self.texts = texts
    }

    deinit { admission.leave(texts) }
  }

  private let most: Int
  private let held = Mutex(0)

  /// - Parameter most: texts at once, waiting ones included.
  init(most: Int) { self.most = most }

  /// Texts that are written or wait.
  var count: Int { held.withLock { $0 } }

  /// - Throws: `APIError` where there is no room; a request of many texts always finds some where nobody else is.
  func enter(texts: Int) throws -> Place {
    try held.withLock { held in
      guard held == 0 || held + texts <= most else { throw APIError.tooBusy }
      held += texts
    }
    return Place(self, texts)
  }

  private func leave(_ texts: Int) { held.withLock { $0 -= texts } }
}
