/// An error of any Ladder module: what is wrong, where, and what to do about it, in one line.
public struct LadderError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The class of an error; its raw value is the command's exit status (sysexits.h).
  public enum Kind: Int32, Sendable {
    /// Options or settings that contradict each other or are out of range.
    case usage = 64
    /// Data or a model that cannot be used as it is.
    case data = 65
    /// A file that is not there.
    case missing = 66
    /// The engine failed at something that should work.
    case engine = 70
    /// A read or a write that failed.
    case inputOutput = 74
    /// Stopped by a signal or a cancelled task; what was to be saved is saved.
    case interrupted = 130
  }

  /// What went wrong, by class.
  public var kind: Kind
  /// One line; settings stand in it by their names in backquotes.
  public var message: String

  /// - Parameter message: one line: what is wrong, where, and what to do about it.
  public init(_ kind: Kind, _ message: String) {
    self.kind = kind
    self.message = message
  }

  public var description: String { message }
}
