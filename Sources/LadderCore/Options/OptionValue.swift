/// What users write as one word, number or list.
public protocol OptionValue: Sendable, Equatable {
  /// Nil for what it cannot be.
  init?(optionText: String)
  /// The same from a list, as files write one.
  init?(optionParts: [String])
  /// As users write it: reading it gives the value again.
  var optionText: String { get }
  /// What can be written: `cosine, linear or constant`.
  static var optionWords: String { get }
}

extension OptionValue {
  public init?(optionParts: [String]) { self.init(optionText: optionParts.joined(separator: ",")) }
}

extension OptionValue where Self: RawRepresentable & CaseIterable, RawValue == String {
  public init?(optionText: String) { self.init(rawValue: optionText) }
  public var optionText: String { rawValue }
  public static var optionWords: String {
    let words = allCases.map(\.rawValue)
    return (words.count < 2 ? words : [words.dropLast().joined(separator: ", "), words[words.count - 1]])
      .joined(separator: " or ")
  }
}

extension OptionValue where Self: LosslessStringConvertible {
  public init?(optionText: String) { self.init(optionText) }
  public var optionText: String { description }
}

extension Int: OptionValue {
  public static var optionWords: String { "a whole number" }
}

extension UInt64: OptionValue {
  public static var optionWords: String { "a whole number, 0 or more" }
}

extension Float: OptionValue {
  public var optionText: String { Double(description)?.optionText ?? description }
  public static var optionWords: String { "a number" }
}

extension Double: OptionValue {
  /// A whole number without its `.0`.
  public var optionText: String { Int(exactly: self)?.description ?? description }
  public static var optionWords: String { "a number" }
}

extension String: OptionValue {
  public static var optionWords: String { "a text" }
}

/// Texts that may hold commas: on the command line an option that is given several times, in files a list.
public struct TextList: OptionValue {
  public var texts: [String]

  public init(_ texts: [String]) { self.texts = texts }
  public init?(optionText: String) { self.init([optionText]) }
  public init?(optionParts: [String]) { self.init(optionParts) }
  public var optionText: String { texts.joined(separator: ",") }
  public static var optionWords: String { "a text, or a list of texts" }
}

/// A flag: on the command line it stands alone.
extension Bool: OptionValue {
  public init?(optionText: String) {
    guard let isOn = Switch(optionText: optionText)?.isOn else { return nil }
    self = isOn
  }
  public static var optionWords: String { "true or false" }
}

/// An option that is `on` or `off`.
public enum Switch: String, OptionValue, Codable, CaseIterable {
  case on, off

  /// Reads what YAML takes for true and false, too.
  public init?(optionText: String) {
    switch optionText.lowercased() {
    case "on", "true", "yes": self = .on
    case "off", "false", "no": self = .off
    default: return nil
    }
  }

  public var isOn: Bool { self == .on }
}
