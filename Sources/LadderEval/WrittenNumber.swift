import Foundation

/// A number as people write it: `1,000`, `.5`, `1e5`, `3/4`, `2 1/2`, `−3`, `$5`.
struct WrittenNumber {
  let value: Double
  /// Of a whole number its digits, as a `Double` holds no more than 15 of them.
  private let digits: String?

  /// The last number of a text; nil where there is none. Digits behind a letter (`m2`) count where there are no others.
  static func last(in text: String) -> WrittenNumber? {
    let found = Finder.all(in: Array(plain(text)))
    return (found.last { !$0.followsLetter } ?? found.last)?.number
  }

  /// What is nothing but one number and its unit: the sign of a currency, a percent sign, or a word behind.
  init?(quantity text: String) {
    let letters = Array(Self.plain(text).trimmingCharacters(in: .whitespacesAndNewlines))
    let found = Finder.all(in: letters)
    guard found.count == 1, let only = found.first, letters[..<only.range.lowerBound].allSatisfy({ $0 == " " }) else {
      return nil
    }
    let unit = letters[only.range.upperBound...].split { $0 == " " || $0 == "." || $0 == "," }
    let isUnit = unit.joined().allSatisfy { $0.isLetter || $0 == "%" || $0 == "°" || $0 == "/" || isCurrency($0) }
    guard isUnit, unit.count <= 1 else { return nil }
    self = only.number
  }

  fileprivate init(value: Double, digits: String? = nil) {
    self.value = value
    self.digits = digits
  }

  /// Whole numbers are compared to the last digit, others to six.
  func equals(_ other: WrittenNumber) -> Bool {
    let difference = abs(value - other.value)
    guard value.rounded() == value, other.value.rounded() == other.value else {
      return difference <= 2e-6 * max(abs(value), abs(other.value))
    }
    return difference == 0 && (digits == nil || other.digits == nil || digits == other.digits)
  }

  /// With ASCII's digits, signs and fractions, and without what NFKC would make a part of the number: `m²`, `2½`, and
  /// blanks between thousands that no line breaks at.
  private static func plain(_ text: String) -> String {
    var scalars: [Unicode.Scalar] = [], all = Array(text.unicodeScalars)[...]
    while let scalar = all.popFirst() {
      switch scalar.value {
      case 0xB2, 0xB3, 0xB9, 0x2070...0x2079: continue
      case 0xBC...0xBE, 0x2150...0x215E: scalars += [" ", scalar]
      case 0xA0, 0x2009, 0x202F:
        let isBetween = scalars.last?.properties.numericType != nil && all.first?.properties.numericType != nil
        if !isBetween { scalars.append(" ") }
      case 0x2212, 0x2013: scalars.append("-")
      default: scalars.append(scalar)
      }
    }
    return String(String.UnicodeScalarView(scalars)).precomposedStringWithCompatibilityMapping
      .replacingOccurrences(of: "\u{2044}", with: "/")
  }
}

private func isCurrency(_ letter: Character) -> Bool {
  letter.unicodeScalars.first?.properties.generalCategory == .currencySymbol
}

/// Finds numbers from left to right.
private struct Finder {
  struct Found {
    var number: WrittenNumber
    /// With its sign and currency.
    var range: Range<Int>
    var followsLetter: Bool
  }

  let text: [Character]
  private var position = 0

  static func all(in text: [Character]) -> [Found] {
    var finder = Finder(text: text), result: [Found] = []
    while finder.position < text.count {
      if let found = finder.next() { result.append(found) } else { finder.position += 1 }
    }
    return result
  }

  private init(text: [Character]) { self.text = text }

  private func letter(_ index: Int) -> Character? { text.indices.contains(index) ? text[index] : nil }
  private func isDigit(_ index: Int) -> Bool { letter(index)?.isASCII == true && letter(index)?.isNumber == true }
  private func digitsEnd(_ start: Int) -> Int { (start...).first { !isDigit($0) } ?? text.count }

  /// The number that begins here, and the position behind it.
  private mutating func next() -> Found? {
    let start = position, before = letter(start - 1)
    let startsWithPoint =
      letter(start) == "." && isDigit(start + 1) && before != "." && before?.isLetter != true && !isDigit(start - 1)
    guard isDigit(start) || startsWithPoint else { return nil }
    var (source, end) = decimal(start)
    var digits = source.allSatisfy(\.isNumber) ? String(source.drop { $0 == "0" }) : nil
    guard var value = Double(source), value.isFinite else {
      position = end
      return nil
    }
    if digits != nil, end == digitsEnd(start), let fraction = fraction(start) {
      (value, end, digits) = (fraction.value, fraction.end, nil)
    } else if digits != nil, letter(end) == " ", let fraction = fraction(end + 1), fraction.value < 1 {
      (value, end, digits) = (value + fraction.value, fraction.end, nil)
    }
    let (first, isNegative) = sign(start)
    position = end
    return Found(
      number: WrittenNumber(value: isNegative ? -value : value, digits: digits), range: first..<end,
      followsLetter: before?.isLetter == true)
  }

  /// Digits, with commas between thousands where all groups are whole, a decimal part, an exponent.
  private func decimal(_ start: Int) -> (source: String, end: Int) {
    var end = digitsEnd(start), source = String(text[start..<end])
    var grouped = end
    while end > start, end - start <= 3, letter(grouped) == ",", digitsEnd(grouped + 1) == grouped + 4 { grouped += 4 }
    if grouped > end {
      source = String(text[start..<grouped].filter { $0 != "," })
      end = grouped
    }
    if letter(end) == ".", isDigit(end + 1) {
      let decimals = digitsEnd(end + 1)
      source += "." + String(text[(end + 1)..<decimals])
      end = decimals
    }
    if letter(end) == "e" || letter(end) == "E" {
      let hasSign = letter(end + 1) == "-" || letter(end + 1) == "+", power = end + (hasSign ? 2 : 1)
      let powerEnd = digitsEnd(power)
      if powerEnd > power, powerEnd - power <= 3, letter(powerEnd)?.isLetter != true {
        source += String(text[end..<powerEnd])
        end = powerEnd
      }
    }
    return (source.hasPrefix(".") ? "0" + source : source, end)
  }

  /// `3/4`, but no part of a date or of a path.
  private func fraction(_ start: Int) -> (value: Double, end: Int)? {
    let middle = digitsEnd(start)
    guard middle > start, letter(middle) == "/", letter(start - 1) != "/" else { return nil }
    let end = digitsEnd(middle + 1)
    guard end > middle + 1, letter(end) != "/", !(letter(end) == "." && isDigit(end + 1)),
      let above = Double(String(text[start..<middle])), let below = Double(String(text[(middle + 1)..<end])), below != 0
    else { return nil }
    return (above / below, end)
  }

  /// Where the sign and the currency before a number begin, and whether it is negative: a minus counts where no word,
  /// number or bracket ends before it, so that 10-5 ends in 5.
  private func sign(_ start: Int) -> (first: Int, isNegative: Bool) {
    var first = start, isSigned = false
    func takeSign() {
      guard !isSigned, let sign = letter(first - 1), sign == "-" || sign == "+" else { return }
      isSigned = true
      first -= 1
    }
    takeSign()
    let currency = letter(first - 1) == " " ? first - 2 : first - 1
    if let symbol = letter(currency), isCurrency(symbol) { first = currency }
    takeSign()
    let signs = text[first..<start].contains("-"), before = letter(first - 1)
    let endsBefore = before.map { $0.isLetter || $0.isNumber || ")]}".contains($0) } ?? false
    return (first, signs && !endsBefore)
  }
}
