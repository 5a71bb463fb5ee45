/// A report on data as a page that needs nothing else.
extension DataReport {
  /// HTML: counts, lengths, what changed, and the first samples with the learned tokens in colour.
  /// - Parameter worded: what is made of a note, in which settings stand by their names.
  public func html(model: String, worded: (String) -> String = { $0 }) -> String {
    var report = HTMLReport(title: "\(name), as \(model) reads it")
    report.add(
      "Counts",
      table: [["samples", "sequences", "tokens", "learned"], [samples, sequences, tokens, learned].map(String.init)])
    for note in notes { report.add(paragraph: worded(note)) }
    let bins = histogram()
    report.add(
      "Lengths in tokens",
      table: [["from", "to", "sequences", ""]]
        + bins.map { bin in
          [
            String(bin.range.lowerBound), String(bin.range.upperBound - 1), String(bin.sequences),
            Self.bar(bin.sequences, of: bins.map(\.sequences).max() ?? 1),
          ]
        })
    report.add(
      style: """
        .t { white-space: pre-wrap; font: 13px/1.7 ui-monospace, monospace; }
        .t span { border-right: 1px solid #fff; background: #eee; } .t .l { background: #bfe8c4; }
        .t .c { color: #0b5cad; font-weight: 600; }
        """)
    report.add(paragraph: "Green tokens are learned, blue ones are control tokens.")
    for view in views {
      report.add(
        heading: "Sample \(view.number)"
          + (view.notes.isEmpty ? "" : " (\(worded(view.notes.joined(separator: "; "))))"))
      for sequence in view.sequences { report.add(html: "<p class=\"t\">\(Self.spans(sequence))</p>\n") }
    }
    if !changed.isEmpty {
      report.add(
        "Samples that do not go through as they are written",
        table: [["sample", "what"]] + changed.map { [String($0.number), worded($0.notes.joined(separator: "; "))] })
    }
    return report.html
  }

  /// Blocks that show a share of the most.
  public static func bar(_ value: Int, of most: Int, width: Int = 40) -> String {
    String(repeating: "█", count: value == 0 ? 0 : max(1, value * width / max(1, most)))
  }

  private static func spans(_ tokens: [Token]) -> String {
    tokens.map { token in
      let classes = [token.isLearned ? "l" : nil, token.isControl ? "c" : nil].compactMap(\.self)
      let text = LineChart.escaped(token.text).replacing("\n", with: "⏎\n")
      return "<span class=\"\(classes.joined(separator: " "))\">\(text)</span>"
    }.joined()
  }
}
