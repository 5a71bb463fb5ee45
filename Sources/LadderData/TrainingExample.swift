/// What an objective looks at as one: a sample, or a pair of answers to one prompt, the preferred one first.
package struct TrainingExample: Sendable, Equatable {
  package var sequences: [EncodedSample]

  package init(_ sequences: [EncodedSample]) { self.sequences = sequences }

  package var tokens: Int { sequences.reduce(0) { $0 + $1.tokens.count } }
}
