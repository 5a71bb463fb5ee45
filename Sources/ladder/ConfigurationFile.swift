import Foundation
import Ladder
import Yams

/// A YAML file of options: `name: value` with the options' long names.
struct ConfigurationFile {
  private let entries: [(name: String, value: String)]
  private let path: String

  /// - Throws: `missing`; `data` where it is no YAML mapping of plain values.
  init(path: String) throws {
    guard FileManager.default.fileExists(atPath: path) else {
      throw LadderError(.missing, "no configuration file at \(path)")
    }
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw LadderError(.data, "\(path) is not a text file")
    }
    let node: Node?
    do {
      node = try Yams.compose(yaml: text)
    } catch let error as YamlError {
      throw LadderError(
        .data, "\(path) is not valid YAML: \(String(describing: error).split(separator: "\n").joined(separator: " "))")
    }
    self.path = path
    guard let node else {
      entries = []
      return
    }
    guard case .mapping(let mapping) = node else {
      throw LadderError(.data, "\(path) is not a mapping; write lines of `option: value`")
    }
    entries = try mapping.map { key, value in
      guard let name = key.string else { throw LadderError(.data, "\(path): an option's name is not a text") }
      switch value {
      case .scalar(let scalar): return (name.replacingOccurrences(of: "_", with: "-"), scalar.string)
      case .sequence(let list):
        return (name.replacingOccurrences(of: "_", with: "-"), list.compactMap(\.string).joined(separator: ","))
      default: throw LadderError(.data, "\(path): \(name) is not a plain value")
      }
    }
  }

  /// The entries as command-line arguments, less those that `given` already names.
  func arguments(excluding given: [String]) -> [String] {
    let open = entries.filter { entry in !given.contains { $0 == "--\(entry.name)" || $0.hasPrefix("--\(entry.name)=") }
    }
    return open.compactMap { name, value in
      switch value.lowercased() {
      case "true", "yes": "--\(name)"
      case "false", "no": nil
      default: "--\(name)=\(value)"
      }
    }
  }
}
