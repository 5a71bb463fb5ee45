import Foundation
import Ladder
import Yams

/// A YAML file that decodes to what a command takes.
enum ConfigurationFile {
  /// Options as such a file, numbers as users write them.
  static func text(of options: some NamedOptions) throws -> String {
    let pairs = options.given.map { name, value -> (Node, Node) in
      guard let list = value as? TextList, list.texts.count > 1 else { return (Node(name), Node(value.optionText)) }
      return (Node(name), Node(list.texts.map { Node($0) }))
    }
    return try Yams.serialize(node: Node(pairs))
  }

  /// - Throws: `missing`; `data` where it is no YAML of this kind; what the value's own decoding throws. Each names the
  ///   file.
  static func read<Value: Decodable>(_ type: Value.Type, path: String) throws -> Value {
    guard FileManager.default.fileExists(atPath: path) else {
      throw LadderError(.missing, "no configuration file at \(path)")
    }
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw LadderError(.data, "\(path) is not a text file")
    }
    do {
      // An empty file gives nothing.
      let node = try Yams.compose(yaml: text) ?? Node([(Node, Node)]())
      guard case .mapping = node else {
        throw LadderError(.data, "it is not a mapping; write lines of `name: value`")
      }
      return try YAMLDecoder().decode(type, from: node)
    } catch let error as LadderError {
      throw LadderError(error.kind, "\(path): \(error.message)")
    } catch let error as DecodingError {
      if let inner = inner(error) { throw LadderError(inner.kind, "\(path): \(inner.message)") }
      throw LadderError(.data, "\(path): \(explain(error))")
    } catch {
      throw LadderError(.data, explain(error, path))
    }
  }

  /// The error that a type's own decoding threw.
  private static func inner(_ error: DecodingError) -> LadderError? {
    guard case .dataCorrupted(let context) = error else { return nil }
    return context.underlyingError as? LadderError ?? (context.underlyingError as? DecodingError).flatMap(inner)
  }

  /// What is wrong with the text, and where.
  private static func explain(_ error: any Error, _ path: String) -> String {
    switch error as? YamlError {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      "\(path):\(mark.line): this is not valid YAML: \(problem.oneLine) (column \(mark.column))"
    default: "\(path) is not valid YAML: \("\(error)".oneLine)"
    }
  }

  private static func explain(_ error: DecodingError) -> String {
    func place(_ context: DecodingError.Context) -> String {
      let path = context.codingPath.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
      return path.isEmpty ? "the file" : path
    }
    switch error {
    case .keyNotFound(let key, let context): return "\(place(context)) has no \(key.stringValue)"
    case .typeMismatch(let type, let context), .valueNotFound(let type, let context):
      return "\(place(context)) is not a \(type)"
    case .dataCorrupted(let context):
      return "\(place(context)): \((context.underlyingError.map { "\($0)" } ?? context.debugDescription).oneLine)"
    @unknown default: return "\(error)"
    }
  }
}
