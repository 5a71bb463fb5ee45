import Foundation
import LadderCore
import LadderData

/// The members of a request's object, read one by one: what is null is not there, what nobody asks for is not read.
struct Fields {
  let members: [String: JSONText]

  init(_ members: [String: JSONText]) { self.members = members.filter { !$0.value.isNull } }

  /// - Throws: `APIError` for a body that is no JSON object.
  init(body: Data) throws {
    let value: JSONText
    do { value = try JSONText(body) } catch {
      throw APIError.bad(nil, "the body is not valid JSON", code: "invalid_json")
    }
    guard value.isObject else { throw APIError.bad(nil, "the body is not a JSON object", code: "invalid_json") }
    self.init(value.object)
  }

  subscript(_ name: String) -> JSONText? { members[name] }

  func text(_ name: String) throws -> String? {
    guard let value = members[name] else { return nil }
    guard let text = value.string else { throw APIError.bad(name, "\(name) must be a string") }
    return text
  }

  func flag(_ name: String) throws -> Bool? {
    guard let value = members[name] else { return nil }
    switch value.source {
    case "true": return true
    case "false": return false
    default: throw APIError.bad(name, "\(name) must be true or false")
    }
  }

  func number(_ name: String, _ range: ClosedRange<Double>) throws -> Double? {
    guard let value = members[name] else { return nil }
    guard value.isNumber, let number = Double(value.source), range.contains(number) else {
      throw APIError.bad(
        name, "\(name) must be a number from \(Self.shown(range.lowerBound)) to \(Self.shown(range.upperBound))")
    }
    return number
  }

  func whole(_ name: String, _ range: ClosedRange<Int>) throws -> Int? {
    guard let value = members[name] else { return nil }
    guard let number = Self.whole(value), range.contains(number) else {
      throw APIError.bad(name, "\(name) must be a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  /// A whole number, however it is written.
  static func whole(_ value: JSONText) -> Int? {
    guard value.isNumber, let number = Double(value.source) else { return nil }
    return Int(value.source) ?? Int(exactly: number)
  }

  /// A string, or a list of them.
  func texts(_ name: String, most: Int) throws -> [String] {
    guard let value = members[name] else { return [] }
    if let text = value.string { return [text] }
    let texts = value.elements.compactMap(\.string)
    guard value.isList, texts.count == value.elements.count, texts.count <= most else {
      throw APIError.bad(name, "\(name) must be a string, or a list of at most \(most) strings")
    }
    return texts
  }

  func object(_ name: String) throws -> Fields? {
    guard let value = members[name] else { return nil }
    guard value.isObject else { throw APIError.bad(name, "\(name) must be an object") }
    return Fields(value.object)
  }

  /// - Throws: `APIError` where one of these has a value: it would change the answer, and is not known here.
  func refuse(_ names: [String]) throws {
    for name in names where members[name] != nil {
      throw APIError.bad(name, "\(name.shown) is not supported", code: "unsupported_parameter")
    }
  }

  private static func shown(_ number: Double) -> String {
    number == number.rounded() ? String(Int(number)) : String(number)
  }
}
