import LadderCore

/// Samples with choices.
extension SampleEncoder {
  /// One encoding per choice, in their order; nil where one does not fit.
  package func encodeChoices(_ sample: Sample, _ count: inout Count) -> [EncodedSample]? {
    guard case .completion(let prompt, _) = sample.form else { return nil }
    var own = Count()
    let start = start(prompt)
    let ends = choicesEnd(prompt, sample.choices)
    let encoded = sample.choices.map { fit(completionTokens(prompt, $0, ends: ends, start: start, &own), &own) }
    count.trimmed += own.trimmed > 0 ? 1 : 0
    count.dropped += own.dropped > 0 ? 1 : 0
    return encoded.contains { $0 == nil } ? nil : encoded.compactMap { $0 }
  }

  /// Whether choices are told apart by their ends too: the tokens of one begin those of another ("1", "10"), and would
  /// always be the likelier ones.
  func choicesEnd(_ prompt: String, _ choices: [String]) -> Bool {
    func begin<Part: Comparable>(_ lists: [[Part]]) -> Bool {
      let sorted = lists.sorted { $0.lexicographicallyPrecedes($1) }
      return zip(sorted, sorted.dropFirst()).contains { $0.count < $1.count && $1.starts(with: $0) }
    }
    // Few choices do, and their texts tell it at once.
    return begin(choices.map { Array($0.utf8) }) && begin(targets(of: choices, prompt, end: false))
  }

  private func targets(of choices: [String], _ prompt: String, end: Bool) -> [[Int32]] {
    let start = start(prompt)
    return choices.map { choice in
      var count = Count()
      return completionTokens(prompt, choice, ends: end, start: start, &count).encoded?.targets ?? []
    }
  }

  /// What each target competes with: the next tokens of the choices that begin as the completion does.
  func rivals(_ prompt: String, _ targets: [Int32], _ choices: [String], end: Bool) -> [[Int32]] {
    let sequences = self.targets(of: choices, prompt, end: end)
    return targets.indices.map { i in
      let next = Set(sequences.filter { $0.count > i && $0.starts(with: targets[..<i]) }.map { $0[i] })
      return next.count > 1 && next.contains(targets[i]) ? next.sorted() : []
    }
  }

  /// A prompt's tokens, where several completions follow it.
  private func start(_ prompt: String) -> [Int32]? {
    var count = Count()
    return prompt.isEmpty ? nil : tokenizer.tokens(prompt, beginning: true, special: marks(prompt, &count))
  }
}
