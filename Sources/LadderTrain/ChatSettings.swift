import Foundation
import LadderBackbone
import LadderCore
import LadderData

/// How conversations are rendered, in training and, by the run's manifest, wherever the run is used.
public struct ChatSettings: Codable, Sendable, Equatable {
  /// A Jinja template in place of the model's own.
  public var template: String? = nil
  /// What the template is given by name, each a JSON value: `["enable_thinking": "false"]`.
  public var options: [String: String]? = nil
  /// What becomes of turns that the template rewrites once others follow; nil is `separate`.
  public var earlierTurns: EarlierTurns? = nil

  public init() {}

  /// - Parameters:
  ///   - templatePath: a file that holds the template.
  ///   - options: a JSON object.
  /// - Throws: `missing`; `usage` where the options are no object.
  public init?(templatePath: String?, options: String?, earlierTurns: EarlierTurns? = nil) throws(LadderError) {
    if templatePath == nil, options == nil, earlierTurns == nil { return nil }
    self.earlierTurns = earlierTurns
    if let templatePath {
      guard FileManager.default.fileExists(atPath: templatePath) else {
        throw LadderError(.missing, "no chat template at \(templatePath)")
      }
      let data = try LadderError.unify { try DurableFile.read(templatePath) }
      guard let text = String(validating: data, as: UTF8.self) else {
        throw LadderError(.data, "\(templatePath) is not text in UTF-8")
      }
      template = text
    }
    if let options {
      guard let named = Conversation.templateOptions(json: options) else {
        throw LadderError(
          .usage, "`chatTemplateOptions` is not a JSON object; write {\"enable_thinking\": false}, for one")
      }
      self.options = named
    }
  }

  /// These over what a run was trained with: what is not given stays as it was there, of the options each.
  package func over(_ run: ChatSettings?) -> ChatSettings {
    var result = run ?? ChatSettings()
    result.template = template ?? run?.template
    result.options = (run?.options ?? [:]).merging(options ?? [:]) { $1 }
    result.earlierTurns = earlierTurns ?? run?.earlierTurns
    return result
  }
}

extension ModelVocabulary {
  /// Renders conversations by these settings from here on; nil is the model's own template.
  /// - Parameter now: what a template that writes the date takes for now; nil is the clock.
  package func use(_ chat: ChatSettings?, now: Date? = nil) {
    useChatTemplate(chat?.template, options: chat?.options ?? [:], now: now)
  }
}
