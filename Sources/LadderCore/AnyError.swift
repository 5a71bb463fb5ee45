import Foundation

extension LadderError {
  /// Runs `body`, whose errors leave as this type: what the public interface throws.
  @inline(never)
  package static func unify<Result>(_ body: () throws -> Result) throws(LadderError) -> Result {
    do { return try body() } catch { throw LadderError(any: error) }
  }

  /// Any error as one of this type, in one line.
  package init(any error: any Error) {
    switch error {
    case let error as LadderError: self = error
    case is CancellationError: self.init(.interrupted, "interrupted")
    case is DecodingError, is EncodingError:
      self.init(.data, "a file that Ladder wrote cannot be read: \(error)".oneLine)
    default:
      let failure = error as NSError
      let isMissing =
        failure.domain == NSCocoaErrorDomain
        && [NSFileNoSuchFileError, NSFileReadNoSuchFileError].contains(failure.code)
      let isFile = failure.domain == NSCocoaErrorDomain || failure.domain == NSPOSIXErrorDomain
      self.init(isMissing ? .missing : isFile ? .inputOutput : .engine, failure.localizedDescription.oneLine)
    }
  }
}

extension String {
  /// Its lines as one.
  package var oneLine: String { split(whereSeparator: \.isNewline).joined(separator: " ") }

  /// A name from a file as it can stand in a message: without control characters, and cut where it is long.
  package var shown: String {
    let plain = String(String.UnicodeScalarView(unicodeScalars.prefix(100).map { Self.isControl($0) ? "?" : $0 }))
    return unicodeScalars.count > 100 ? plain + "…" : plain
  }

  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    [.control, .format, .lineSeparator, .paragraphSeparator].contains(scalar.properties.generalCategory)
  }
}
