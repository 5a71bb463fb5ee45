import Foundation

/// A size as people write it: `20GB`, `512MB`, `6.5G`, `1000000`.
public struct ByteSize: OptionValue {
  public var bytes: Int

  public init(_ bytes: Int) { self.bytes = bytes }

  public init?(optionText: String) {
    let units: [(String, Double)] = [
      ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e3), ("B", 1),
      ("", 1),
    ]
    let upper = optionText.uppercased().filter { !$0.isWhitespace }
    guard let (unit, factor) = units.first(where: { upper.hasSuffix($0.0) }),
      let number = Double(upper.dropLast(unit.count)), number > 0, number * factor < 1e18
    else { return nil }
    bytes = Int(number * factor)
  }

  public var optionText: String {
    let units = [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000)]
    return units.first { bytes % $0.1 == 0 }.map { "\(bytes / $0.1)\($0.0)" } ?? String(bytes)
  }

  public static var optionWords: String { "a size like 20GB or 512MB" }
}
