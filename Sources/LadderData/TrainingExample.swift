/// What an objective looks at as one: a sample, or a pair of answers to one prompt, the preferred one first.
package struct TrainingExample: Sendable, Equatable {
  package var sequences: [EncodedSample]
  /// What goes through the model: of a pair the common prompt once, where the model can take it so.
  package let packed: [PackedSample]

  /// - Parameter shares: whether the model takes two texts with a common beginning as one sample.
  package init(_ sequences: [EncodedSample], shares: Bool = false) {
    self.sequences = sequences
    let own = sequences.map(\.packed)
    let joined = shares && own.count == 2 ? PackedSample(own[0], and: own[1]) : nil
    packed = joined.map { [$0] } ?? own
  }

  /// Tokens that go through the model.
  package var tokens: Int { packed.reduce(0) { $0 + $1.tokens.count } }
}
