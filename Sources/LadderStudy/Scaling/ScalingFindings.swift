import Foundation
import LadderCompute
import LadderCore

extension ScalingStudy {
  /// One training.
  public struct Point: Codable, Sendable {
    public var method: String
    /// `reduction 2.5` or `rank 16`.
    public var size: String
    public var samples: Int
    public var tokens: Int
    /// Operations.
    public var compute: Double
    public var loss: Double
    public var seconds: Double
    /// Trained numbers.
    public var parameters: Int? = nil
    /// In 10¹² operations, where budgets are of those.
    public var budget: Double? = nil

    /// The logarithm of its trained numbers.
    var logSize: Double { log(Double(max(1, parameters ?? 1))) }
  }

  /// The least loss at one budget of operations.
  public struct Minimum: Codable, Sendable, Equatable {
    public var method: String
    /// In 10¹² operations.
    public var budget: Double
    /// Trained numbers there.
    public var parameters: Double
    public var loss: Double
    /// Whether a parabola has its least inside the sizes that were trained; else it is the best of those.
    public var isInside: Bool

    enum CodingKeys: String, CodingKey {
      case method, budget, parameters, loss
      case isInside = "inside"
    }
  }

  /// d ln L / d ln C, and the middle 90% of it over resampled points.
  public struct Slope: Codable, Sendable, Equatable {
    public var value, low, high: Double
  }

  public struct Findings: Codable, Sendable {
    public var points: [Point]
    /// Through all points of a method, or through its minima.
    public var fits: [String: PowerLaw]
    /// Of budgets of operations.
    public var minima: [Minimum]?
    public var slopes: [String: Slope]?
    /// Whether the intervals of the slopes overlap; nil where a fit is missing.
    public var slopesOverlap: Bool?

    enum CodingKeys: String, CodingKey {
      case points, fits, minima, slopes
      case slopesOverlap = "slopes_overlap"
    }
  }

  static func findings(_ points: [Point]) -> Findings {
    if points.contains(where: { $0.budget != nil }) { return isoFindings(points) }
    var fits: [String: PowerLaw] = [:]
    let methods = Self.methods(points)
    for method in methods {
      let own = points.filter { $0.method == method }
      if let law = PowerLaw(own.map { ($0.compute, $0.loss) }) { fits[method] = law }
    }
    let intervals = fits.values.compactMap { law in law.low.flatMap { low in law.high.map { (low: low, high: $0) } } }
    let isWhole = methods.count > 1 && intervals.count == methods.count
    return Findings(points: points, fits: fits, slopesOverlap: isWhole ? overlap(intervals) : nil)
  }

  /// Intervals overlap where the highest begins before the lowest ends.
  private static func overlap(_ intervals: [(low: Double, high: Double)]) -> Bool {
    (intervals.map(\.low).max() ?? 0) <= (intervals.map(\.high).min() ?? 0)
  }

  // MARK: - Budgets of operations

  private static func isoFindings(_ points: [Point]) -> Findings {
    var fits: [String: PowerLaw] = [:], slopes: [String: Slope] = [:], minima: [Minimum] = []
    let methods = Self.methods(points)
    for method in methods {
      let curves = IsoCurve.curves(points.filter { $0.method == method })
      let own = curves.map(\.minimum)
      minima += own
      if let law = PowerLaw(own.map { (1e12 * $0.budget, $0.loss) }) { fits[method] = law }
      slopes[method] = IsoCurve.slope(curves)
    }
    let isWhole = methods.count > 1 && slopes.count == methods.count
    return Findings(
      points: points, fits: fits, minima: minima, slopes: slopes,
      slopesOverlap: isWhole ? overlap(slopes.values.map { ($0.low, $0.high) }) : nil)
  }

  /// A method's sizes at one budget, and the parabola over the logarithm of their parameters.
  struct IsoCurve {
    let points: [Point]
    let losses: [Double]
    let fit: (Double) -> Double
    let minimum: Minimum

    static func curves(_ points: [Point]) -> [IsoCurve] {
      Dictionary(grouping: points) { $0.budget ?? 0 }.sorted { $0.key < $1.key }.map { _, own in
        IsoCurve(own.sorted { $0.logSize < $1.logSize })
      }
    }

    /// - Parameter losses: in place of the points' own.
    init(_ points: [Point], losses: [Double]? = nil) {
      let losses = losses ?? points.map(\.loss), u = points.map(\.logSize)
      self.points = points
      self.losses = losses
      let best = losses.indices.min { losses[$0] < losses[$1] } ?? 0
      let measured = Minimum(
        method: points.first?.method ?? "", budget: points.first?.budget ?? 0,
        parameters: u.isEmpty ? 0 : exp(u[best]), loss: losses.isEmpty ? 0 : losses[best], isInside: false)
      guard Set(u).count >= 3 else {
        fit = { _ in measured.loss }
        minimum = measured
        return
      }
      // About their mean, so that the sums stay apart.
      let mean = u.reduce(0, +) / Double(u.count)
      let p = LeastSquares.polynomial(u.map { $0 - mean }, losses, degree: 2)
      let fit = { (u: Double) in p[0] + p[1] * (u - mean) + p[2] * (u - mean) * (u - mean) }
      self.fit = fit
      let vertex = mean - p[1] / (2 * p[2])
      guard p[2] > 0, vertex > (u.first ?? 0), vertex < (u.last ?? 0), fit(vertex) > 0 else {
        minimum = measured
        return
      }
      minimum = Minimum(
        method: measured.method, budget: measured.budget, parameters: exp(vertex), loss: fit(vertex), isInside: true)
    }

    /// Through the minima, in logarithms; the interval by drawing the points' distances from their parabolas anew.
    static func slope(_ curves: [IsoCurve], resamples: Int = 500) -> Slope? {
      func slope(_ minima: [Minimum]) -> Double {
        LeastSquares.polynomial(minima.map { log($0.budget) }, minima.map { log($0.loss) }, degree: 1)[1]
      }
      guard curves.count >= 3 else { return nil }
      let fitted = curves.map { curve in curve.points.map { curve.fit($0.logSize) } }
      // A parabola through three points leaves nothing: residuals grow by what its degrees of freedom took.
      let residuals = zip(curves, fitted).flatMap { curve, fitted in
        let free = max(1, curve.points.count - 3), scale = (Double(curve.points.count) / Double(free)).squareRoot()
        return zip(curve.losses, fitted).map { scale * ($0 - $1) }
      }
      var random = SeededRandom(seed: 0, 67)
      let drawn = (0..<resamples).map { _ in
        slope(
          zip(curves, fitted).map { curve, fitted in
            let losses = fitted.map { $0 + residuals[Int(random.next() % UInt64(residuals.count))] }
            return IsoCurve(curve.points, losses: losses).minimum
          })
      }
      return LeastSquares.middle(drawn).map { Slope(value: slope(curves.map(\.minimum)), low: $0.low, high: $0.high) }
    }
  }
}
