import Foundation

/// Peak memory over the length of a sample, and the line through it.
public struct MemoryCurve: Codable, Sendable {
  public struct Point: Codable, Sendable {
    public var length: Int
    public var peakBytes: Int

    public init(length: Int, peakBytes: Int) {
      self.length = length
      self.peakBytes = peakBytes
    }

    enum CodingKeys: String, CodingKey {
      case length
      case peakBytes = "peak_bytes"
    }
  }

  public var points: [Point]
  /// The least-squares line peak = intercept + slope·length, in bytes.
  public var intercept: Double
  public var slope: Double
  /// The largest distance of a point from the line, over that point.
  public var worstResidual: Double
  /// The quadratic term of the least-squares parabola at the longest length, over the peak there: near zero for linear
  /// growth.
  public var quadraticShare: Double

  enum CodingKeys: String, CodingKey {
    case points, intercept
    case slope = "bytes_per_token"
    case worstResidual = "worst_residual"
    case quadraticShare = "quadratic_share"
  }

  public init(_ points: [Point]) {
    self.points = points
    let x = points.map { Double($0.length) }, y = points.map { Double($0.peakBytes) }
    let line = LeastSquares.polynomial(x, y, degree: 1),
      parabola = points.count > 2 ? LeastSquares.polynomial(x, y, degree: 2) : line + [0]
    intercept = line[0]
    slope = line[1]
    worstResidual = zip(x, y).map { abs($1 - line[0] - line[1] * $0) / $1 }.max() ?? 0
    let last = x.max() ?? 0
    quadraticShare = parabola[2] * last * last / (y.max() ?? 1)
  }

  public func chart(_ title: String) -> LineChart {
    let measured = points.map { (x: Double($0.length), y: Double($0.peakBytes) / 1e9) }
    let ends = [points.first, points.last].compactMap { $0 }.map {
      (x: Double($0.length), y: (intercept + slope * Double($0.length)) / 1e9)
    }
    return LineChart(
      title: title, x: "tokens of one sample", y: "peak memory, GB",
      [
        .init("measured", measured, line: false),
        .init(String(format: "line: %.2f GB + %.1f kB a token", intercept / 1e9, slope / 1e3), ends, markers: false),
      ])
  }
}
