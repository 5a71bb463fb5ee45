/// How often each label was judged to be each.
package struct Classification: Sendable, Equatable {
  /// `counts[right][judged]`.
  private var counts: [[Int]]

  package init(labels: Int) { counts = [[Int]](repeating: [Int](repeating: 0, count: labels), count: labels) }

  package mutating func add(_ right: Int, judged: Int) { counts[right][judged] += 1 }

  private var total: Int { counts.joined().reduce(0, +) }
  private var agreed: Int { counts.indices.reduce(0) { $0 + counts[$1][$1] } }
  private func right(_ label: Int) -> Int { counts[label].reduce(0, +) }
  private func judged(_ label: Int) -> Int { counts.reduce(0) { $0 + $1[label] } }

  /// The share that was judged right.
  package var accuracy: Double { Double(agreed) / Double(max(1, total)) }

  /// Matthews correlation, of any number of labels (Gorodkin 2004, R_K): 1 where all are right, 0 for what tells
  /// nothing, as one label for all.
  package var matthews: Double {
    let n = Double(total)
    var both = 0.0, right = 0.0, judged = 0.0
    for label in counts.indices {
      let (r, j) = (Double(self.right(label)), Double(self.judged(label)))
      both += r * j
      right += r * r
      judged += j * j
    }
    let scale = ((n * n - right) * (n * n - judged)).squareRoot()
    return scale > 0 ? (Double(agreed) * n - both) / scale : 0
  }

  /// The mean over labels of the harmonic mean of precision and recall; labels that are neither right nor judged
  /// anywhere are left out.
  package var macroF1: Double {
    let present = counts.indices.filter { right($0) + judged($0) > 0 }
    let sum = present.reduce(0.0) { $0 + 2 * Double(counts[$1][$1]) / Double(right($1) + judged($1)) }
    return sum / Double(max(1, present.count))
  }
}
