import LadderCore

/// What happens while something is fetched.
public enum HubEvent: Sendable {
  /// Bytes of a file, or rows of a data set.
  case progress(HubProgress)
  /// Something a user should know.
  case note(String)
}

/// How far a transfer is.
public struct HubProgress: Sendable {
  /// What is fetched.
  public var name: String
  /// Bytes, or rows.
  public var done: Int
  /// Of so many; nil where the server does not say.
  public var total: Int?
  /// Whether rows are counted.
  public var countsRows: Bool
  /// In a second, since this transfer began; 0 in its first moments.
  public var speed: Double

  /// Seconds that are left.
  public var secondsLeft: Double? {
    guard let total, speed > 0 else { return nil }
    return Double(total - done) / speed
  }
}

/// Hands progress on a few times a second.
final class ProgressMeter {
  private let name: String
  private let total: Int?
  private let countsRows: Bool
  private let first: Int
  private let report: @Sendable (HubEvent) -> Void
  private let isQuiet: Bool
  private let start = ContinuousClock.now
  private var last: ContinuousClock.Instant

  /// - Parameter isQuiet: what takes no longer than a second is not shown at all.
  init(
    _ name: String, from first: Int, of total: Int?, countsRows: Bool = false, isQuiet: Bool = false,
    report: @escaping @Sendable (HubEvent) -> Void
  ) {
    self.name = name
    self.total = total
    self.countsRows = countsRows
    self.first = first
    self.report = report
    last = start + .seconds(isQuiet ? 1 : -1)
    self.isQuiet = isQuiet
  }

  func show(_ done: Int) {
    let now = ContinuousClock.now
    guard now - last >= .milliseconds(200) || (done == total && !isQuiet) else { return }
    last = now
    let seconds = (now - start).seconds,
      speed = seconds < 0.5 && done != total ? 0 : Double(done - first) / max(1e-3, seconds)
    report(.progress(HubProgress(name: name, done: done, total: total, countsRows: countsRows, speed: speed)))
  }
}
