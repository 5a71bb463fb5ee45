import Foundation
import LadderCompute
import LadderCore

/// L = a·C^(−b) + c, by least squares, with intervals by resampling residuals (Hoffmann et al. 2022, eq. 2, in one
/// variable).
public struct PowerLaw: Codable, Sendable, Equatable {
  public var a: Double
  public var b: Double
  public var c: Double
  /// The middle 90% of b over resampled fits; nil where three points leave nothing to resample.
  public var low: Double?
  public var high: Double?
  /// Root mean square distance of the points.
  public var residual: Double

  public func value(_ compute: Double) -> Double { a * pow(compute, -b) + c }

  /// - Parameter points: three or more, of compute and loss.
  /// - Returns: nil where there are too few points, or all of one compute.
  public init?(_ points: [(compute: Double, loss: Double)], resamples: Int = 500, seed: UInt64 = 0) {
    guard points.count >= 3, let scale = points.map(\.compute).max(), Set(points.map(\.compute)).count >= 3 else {
      return nil
    }
    // Compute in units of its largest, so that powers stay near one.
    let x = points.map { $0.compute / scale }, y = points.map(\.loss)
    guard let best = Self.fit(x, y) else { return nil }
    let fitted = x.map { best.a * pow($0, -best.b) + best.c }, errors = zip(y, fitted).map { $0 - $1 }
    // Residuals grow by what three fitted numbers took.
    let spread = (Double(x.count) / Double(max(1, x.count - 3))).squareRoot()
    var random = SeededRandom(seed: seed, 61), slopes: [Double] = []
    for _ in 0..<(x.count > 3 ? resamples : 0) {
      let drawn = fitted.map { $0 + spread * errors[Int(random.next() % UInt64(errors.count))] }
      if let other = Self.fit(x, drawn) { slopes.append(other.b) }
    }
    a = best.a * pow(scale, best.b)
    b = best.b
    c = best.c
    let interval = LeastSquares.middle(slopes)
    low = interval?.low
    high = interval?.high
    residual = (errors.reduce(0) { $0 + $1 * $1 } / Double(errors.count)).squareRoot()
  }

  /// For each b the best a and c follow from a line; b is searched, first coarsely and then finely. a ≥ 0 and c ≥ 0.
  private static func fit(_ x: [Double], _ y: [Double]) -> (a: Double, b: Double, c: Double)? {
    func solve(_ b: Double) -> (a: Double, c: Double, error: Double) {
      let u = x.map { pow($0, -b) }, n = Double(x.count)
      let mu = u.reduce(0, +) / n, my = y.reduce(0, +) / n
      let covariance = zip(u, y).reduce(0) { $0 + ($1.0 - mu) * ($1.1 - my) },
        variance = u.reduce(0) { $0 + ($1 - mu) * ($1 - mu) }
      var a = variance > 0 ? max(0, covariance / variance) : 0, c = my - a * mu
      if c < 0 {
        c = 0
        a = zip(u, y).reduce(0) { $0 + $1.0 * $1.1 } / u.reduce(0) { $0 + $1 * $1 }
      }
      return (a, c, zip(u, y).reduce(0) { $0 + pow($1.1 - a * $1.0 - c, 2) })
    }
    var low = 0.005, high = 4.0, best = low
    for _ in 0..<6 {
      let candidates = (0...40).map { low * pow(high / low, Double($0) / 40) }
      guard let index = candidates.indices.min(by: { solve(candidates[$0]).error < solve(candidates[$1]).error }) else {
        return nil
      }
      best = candidates[index]
      (low, high) = (candidates[max(0, index - 1)], candidates[min(40, index + 1)])
    }
    let (a, c, _) = solve(best)
    return (a, best, c)
  }
}
