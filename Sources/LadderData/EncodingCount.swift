extension SampleEncoder {
  /// Samples that did not go through as they were written.
  package struct Count: Sendable, Equatable {
    /// Samples of which the oldest part is cut off.
    package var trimmed = 0
    /// Samples, or turns of them, that are too long in what is learned.
    package var dropped = 0
    /// Texts that are cut into pieces.
    package var split = 0
    /// Samples in which nothing is learned.
    package var idle = 0
    /// Empty turns of the assistant, which teach nothing.
    package var emptyTurns = 0
    /// Views of conversations beside the whole ones.
    package var views = 0
    /// Earlier turns that the template rewrites, or does not take without later ones, and which are not learned.
    package var omittedTurns = 0
    /// Texts and prompts whose names of control tokens are those tokens.
    package var templated = 0
    package init() {}

    package static func += (all: inout Count, part: Count) {
      all.trimmed += part.trimmed
      all.dropped += part.dropped
      all.split += part.split
      all.idle += part.idle
      all.emptyTurns += part.emptyTurns
      all.views += part.views
      all.omittedTurns += part.omittedTurns
      all.templated += part.templated
    }

    /// What a user should know, one short phrase each.
    package var notes: [String] {
      func note(_ count: Int, _ one: String, _ many: String) -> String? {
        count == 0 ? nil : count == 1 ? "1 \(one)" : "\(count) \(many)"
      }
      return [
        note(trimmed, "trimmed to `maxLength`", "trimmed to `maxLength`"),
        note(dropped, "dropped as too long", "dropped as too long"),
        note(split, "text cut into pieces of `maxLength`", "texts cut into pieces of `maxLength`"),
        note(idle, "teaches nothing and is left out", "teach nothing and are left out"),
        note(emptyTurns, "empty turn of the assistant not learned", "empty turns of the assistant not learned"),
        note(
          views, "view added for turns that the chat template rewrites later or that do not fit together",
          "views added for turns that the chat template rewrites later or that do not fit together"),
        note(
          omittedTurns, "earlier turn not learned, for the chat template rewrites or refuses it",
          "earlier turns not learned, for the chat template rewrites or refuses them"),
        note(
          templated, "that begins with a control token's name, so that such names in it are those tokens",
          "that begin with a control token's name, so that such names in them are those tokens"),
      ].compactMap(\.self)
    }
  }
}
