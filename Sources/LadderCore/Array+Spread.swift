extension Array {
  /// So many of the elements, `count` at most, spread evenly over all.
  package func spread(_ wanted: Int) -> [Element] { (0..<wanted).map { self[$0 * count / wanted] } }
}
