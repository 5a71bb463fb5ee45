import Foundation

/// What goes through measured points.
enum LeastSquares {
  /// The coefficients, from the constant up, by the normal equations, places scaled to 1.
  static func polynomial(_ x: [Double], _ y: [Double], degree: Int) -> [Double] {
    let scale = max(1e-12, x.map(abs).max() ?? 1), n = degree + 1
    var a = [[Double]](repeating: [Double](repeating: 0, count: n + 1), count: n)
    for (x, y) in zip(x, y) {
      let powers = (0..<n).map { pow(x / scale, Double($0)) }
      for i in 0..<n {
        for j in 0..<n { a[i][j] += powers[i] * powers[j] }
        a[i][n] += powers[i] * y
      }
    }
    for i in 0..<n {
      let pivot = (i..<n).max { abs(a[$0][i]) < abs(a[$1][i]) } ?? i
      a.swapAt(i, pivot)
      guard abs(a[i][i]) > 1e-12 else { continue }
      for row in 0..<n where row != i {
        let factor = a[row][i] / a[i][i]
        for column in i...n { a[row][column] -= factor * a[i][column] }
      }
    }
    return (0..<n).map { abs(a[$0][$0]) > 1e-12 ? a[$0][n] / a[$0][$0] / pow(scale, Double($0)) : 0 }
  }

  /// The bounds of the middle 90% of numbers; nil where there are none.
  static func middle(_ numbers: [Double]) -> (low: Double, high: Double)? {
    let sorted = numbers.sorted(), cut = sorted.count / 20
    return sorted.isEmpty ? nil : (sorted[cut], sorted[sorted.count - 1 - cut])
  }
}
