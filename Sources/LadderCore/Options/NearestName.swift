/// The names that somebody who wrote another may have meant.
package enum NearestName {
  /// - Returns: the one name that is two changes of a letter away or fewer, and no farther than half its length; nil
  ///   where there is none.
  package static func of(_ written: String, among names: [String]) -> String? {
    let near = names.map { (name: $0, changes: changes(from: written, to: $0)) }.min { $0.changes < $1.changes }
    return near.flatMap { $0.changes <= min(2, $0.name.count / 2) ? $0.name : nil }
  }

  /// Letters to add, remove or replace (Levenshtein's distance).
  static func changes(from first: String, to second: String) -> Int {
    let target = Array(second)
    var row = Array(0...target.count)
    for (i, letter) in first.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, other) in target.enumerated() {
        (diagonal, row[j + 1]) = (row[j + 1], min(diagonal + (letter == other ? 0 : 1), row[j] + 1, row[j + 1] + 1))
      }
    }
    return row[target.count]
  }
}
