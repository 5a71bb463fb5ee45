import Ladder

/// Sizes as people write them: `20GB`, `512MB`, `6.5G`, `1000000`.
enum ByteCount {
  /// - Throws: `usage` for what is no size.
  static func parse(_ text: String, option: String) throws -> Int {
    let units: [(String, Double)] = [
      ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3), ("B", 1),
      ("", 1),
    ]
    let upper = text.uppercased().filter { !$0.isWhitespace }
    for (unit, factor) in units where upper.hasSuffix(unit) {
      guard let number = Double(upper.dropLast(unit.count)), number > 0, number * factor < 1e18 else { break }
      return Int(number * factor)
    }
    throw LadderError(.usage, "\(option) \(text): write a size like 20GB or 512MB")
  }
}
