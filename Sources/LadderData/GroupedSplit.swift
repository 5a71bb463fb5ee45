import LadderCore

extension [Sample] {
  /// Parts off a share of the samples, by groups: what shares a prompt, or a long line that few samples have, as four
  /// solutions of one problem do, stays together. What is judged is then like nothing that was learned.
  /// - Returns: both parts in their order; nil where the samples cannot be parted so.
  package func split(_ share: Double, seed: UInt64) -> (kept: [Sample], apart: [Sample])? {
    let groups = groups(), wanted = Swift.max(1, Int((Double(count) * share).rounded()))
    var random = SeededRandom(seed: seed, 9)
    var isApart = [Bool](repeating: false, count: count), taken = 0
    for group in groups.shuffled(using: &random) where taken + group.count <= wanted {
      for index in group { isApart[index] = true }
      taken += group.count
      if taken == wanted { break }
    }
    guard taken > 0, taken < count else { return nil }
    return (indices.filter { !isApart[$0] }.map { self[$0] }, indices.filter { isApart[$0] }.map { self[$0] })
  }

  /// Indices of samples that belong together, in the order of their first.
  private func groups() -> [[Int]] {
    // A line that many samples have is a template's, and binds nothing.
    let most = Swift.max(8, count / 50)
    var owners: [String: [Int]] = [:]
    for (index, sample) in enumerated() {
      for key in sample.form.lines { owners[key, default: []].append(index) }
    }
    var parent = Array<Int>(indices)
    func root(_ index: Int) -> Int {
      var index = index
      while parent[index] != index {
        parent[index] = parent[parent[index]]
        index = parent[index]
      }
      return index
    }
    for owners in owners.values where owners.count <= most {
      for other in owners.dropFirst() {
        let (a, b) = (root(owners[0]), root(other))
        parent[Swift.max(a, b)] = Swift.min(a, b)
      }
    }
    return Dictionary(grouping: indices, by: root).sorted { $0.key < $1.key }.map(\.value)
  }
}

extension Sample.Form {
  /// The prompt, and its lines that are long enough to be told by.
  fileprivate var lines: Set<String> {
    let prompt: String
    switch self {
    case .completion(let start, _): prompt = start
    case .text(let text): prompt = text
    case .conversation(let conversation), .reply(let conversation, _):
      prompt = conversation.messages.filter { $0.role == "user" }.map(\.content).joined(separator: "\n")
    case .preference(let chosen, _): return chosen.lines
    }
    let long = prompt.split(separator: "\n").filter { $0.utf8.count >= 24 }.map(String.init)
    return Set(long + [prompt])
  }
}
