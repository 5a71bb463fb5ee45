import LadderCore

/// Text out of tokens' bytes as they come: whole characters, and nothing of a stop text or behind it.
///
/// What may yet become a character or a stop text is held back until it is one, or is none.
struct TextStream {
  private let stops: [(text: String, bytes: [UInt8])]
  private var held: [UInt8] = []
  /// The stop text that has come.
  private(set) var stop: String?

  init(stops: [String] = []) { self.stops = stops.filter { !$0.isEmpty }.map { ($0, Array($0.utf8)) } }

  /// What is certain once these bytes are there.
  mutating func take(_ bytes: [UInt8]) -> String {
    guard stop == nil else { return "" }
    held += bytes
    let found = stops.compactMap { stop in held.firstRange(of: stop.bytes).map { (stop.text, $0.lowerBound) } }
    if let (text, start) = found.min(by: { $0.1 < $1.1 }) {
      stop = text
      defer { held = [] }
      return String(decoding: held[..<start], as: UTF8.self)
    }
    let open = max(held.withUnsafeBytes(UTF8Bytes.unfinished), beginning)
    defer { held.removeFirst(held.count - open) }
    return String(decoding: held.dropLast(open), as: UTF8.self)
  }

  /// What was held back, once nothing more comes.
  mutating func rest() -> String {
    defer { held = [] }
    return String(decoding: held, as: UTF8.self)
  }

  /// The most bytes at the end that a stop text begins with.
  private var beginning: Int {
    stops.map { stop in
      stride(from: min(stop.bytes.count - 1, held.count), to: 0, by: -1).first {
        held.suffix($0).elementsEqual(stop.bytes.prefix($0))
      }
        ?? 0
    }.max() ?? 0
  }
}
