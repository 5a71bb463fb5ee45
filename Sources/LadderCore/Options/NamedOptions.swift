import Foundation

/// Options by their long names, each given or left open. One list of fields makes them readable from any file and
/// writable to it, as a flat mapping of name to value, and tells what was given.
public protocol NamedOptions: Codable, Sendable, Equatable, CustomStringConvertible {
  /// Nothing given.
  init()
  static var fields: [OptionField<Self>] { get }
}

/// One option of `Root`: its long name, and the property that holds it.
public struct OptionField<Root> {
  package let name: String
  package let value: (Root) -> (any OptionValue)?
  fileprivate let read: (inout Root, PlainValue) throws -> Void
  fileprivate let fill: (inout Root, Root) -> Void

  package init<Value: OptionValue>(_ name: String, _ path: WritableKeyPath<Root, Value?>) {
    self.name = name
    value = { $0[keyPath: path] }
    read = { root, given in
      guard let value = given.isList ? Value(optionParts: given.parts) : Value(optionText: given.parts[0]) else {
        throw LadderError(
          .usage, "`\(Self.property(name))` \(given.parts.joined(separator: ",")): take \(Value.optionWords)")
      }
      root[keyPath: path] = value
    }
    fill = { root, other in root[keyPath: path] = root[keyPath: path] ?? other[keyPath: path] }
  }

  /// The options of a part of `Root`, as its own.
  package static func all<Part: NamedOptions>(of path: WritableKeyPath<Root, Part>) -> [OptionField] {
    Part.fields.map { field in
      OptionField(
        name: field.name, value: { field.value($0[keyPath: path]) },
        read: { try field.read(&$0[keyPath: path], $1) },
        fill: { field.fill(&$0[keyPath: path], $1[keyPath: path]) })
    }
  }

  private init(
    name: String, value: @escaping (Root) -> (any OptionValue)?,
    read: @escaping (inout Root, PlainValue) throws -> Void,
    fill: @escaping (inout Root, Root) -> Void
  ) {
    self.name = name
    self.value = value
    self.read = read
    self.fill = fill
  }

  /// The name as Swift writes it: `learningRate`.
  package var property: String { Self.property(name) }

  private static func property(_ name: String) -> String {
    let parts = name.split(separator: "-")
    return parts.prefix(1).joined() + parts.dropFirst().map(\.capitalized).joined()
  }
}

extension NamedOptions {
  /// What is given, by name.
  package var given: [(name: String, value: any OptionValue)] {
    Self.fields.compactMap { field in field.value(self).map { (field.name, $0) } }.sorted { $0.0 < $1.0 }
  }

  /// These options, and what they leave open from others.
  public func over(_ others: Self) -> Self {
    var result = self
    for field in Self.fields { field.fill(&result, others) }
    return result
  }

  /// Sets an option by its long name, as users write it.
  /// - Throws: `usage` for an unknown name, and for a value that cannot be read.
  package mutating func set(_ name: String, to text: String) throws(LadderError) {
    guard let field = Self.fields.first(where: { $0.name == name }) else { throw Self.unknown(name) }
    try LadderError.unify { try field.read(&self, PlainValue(text)) }
  }

  private static func unknown(_ name: String) -> LadderError {
    let names = fields.map(\.name).sorted()
    let hint =
      NearestName.of(name, among: names).map { "did you mean \($0)?" } ?? "take \(names.joined(separator: ", "))"
    return LadderError(.usage, "no option is called \(name.shown); \(hint)")
  }

  /// As they stand on a command line: `--epochs 2 --rungs 1,3`.
  public var description: String { flags(" ").joined(separator: " ") }

  /// What is given, each option with its value behind `separator`; a flag that is off is left out.
  package func flags(_ separator: String) -> [String] {
    given.flatMap { name, value in
      switch value {
      case let flag as Bool: flag ? ["--\(name)"] : []
      case let list as TextList: list.texts.map { "--\(name)\(separator)\($0)" }
      default: ["--\(name)\(separator)\(value.optionText)"]
      }
    }
  }

  // MARK: - Codable

  /// Takes values that are texts, numbers, truth values or lists, under names with hyphens or underscores.
  /// - Throws: `usage` for an unknown name and for a value that cannot be read; `data` for what is no plain value.
  public init(from decoder: any Decoder) throws {
    self.init()
    let container = try decoder.container(keyedBy: OptionName.self), fields = Self.fields
    for key in container.allKeys.sorted(by: { $0.stringValue < $1.stringValue }) {
      let name = key.stringValue.replacingOccurrences(of: "_", with: "-")
      guard let field = fields.first(where: { $0.name == name }) else { throw Self.unknown(name) }
      // Null, or nothing behind the name: not given.
      if try container.decodeNil(forKey: key) { continue }
      guard let scalar = try? container.decode(PlainValue.self, forKey: key) else {
        throw LadderError(.data, "\(name) is not a plain value")
      }
      try field.read(&self, scalar)
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: OptionName.self)
    for (name, value) in given {
      let key = OptionName(stringValue: name)
      switch value {
      case let flag as Bool: try container.encode(flag, forKey: key)
      case let list as TextList where list.texts.count > 1: try container.encode(list.texts, forKey: key)
      case let number as any OptionValue & Numeric & Encodable: try container.encode(number, forKey: key)
      default: try container.encode(value.optionText, forKey: key)
      }
    }
  }
}

/// Sets what is given.
package func assign<Value>(_ setting: inout Value, _ value: Value?) {
  if let value { setting = value }
}

private struct OptionName: CodingKey {
  let stringValue: String
  var intValue: Int? { nil }
  init(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}

/// A value of a file as text, or a list's parts. A list of lists is none: references to lists could make it longer than
/// any memory.
package struct PlainValue: Decodable, Sendable {
  package let parts: [String]
  /// A list may have one part.
  package let isList: Bool

  init(_ text: String) {
    parts = [text]
    isList = false
  }

  package init(from decoder: any Decoder) throws {
    if var list = try? decoder.unkeyedContainer() {
      var parts: [String] = []
      while !list.isAtEnd { parts.append(try list.decode(Scalar.self).text) }
      self.parts = parts
      isList = true
    } else {
      parts = [try Scalar(from: decoder).text]
      isList = false
    }
  }
}

private struct Scalar: Decodable {
  let text: String

  init(from decoder: any Decoder) throws {
    let value = try decoder.singleValueContainer()
    if let string = try? value.decode(String.self) {
      text = string
    } else if let flag = try? value.decode(Bool.self) {
      text = flag.optionText
    } else if let number = try? value.decode(Int.self) {
      text = number.optionText
    } else if let number = try? value.decode(UInt64.self) {
      text = number.optionText
    } else {
      text = try value.decode(Double.self).optionText
    }
  }
}
