import Foundation

/// A line chart as SVG, self-contained: axes with round ticks, one polyline and its points per series, a legend beside
/// them.
public struct LineChart: Sendable {
  public struct Series: Sendable {
    public var name: String
    public var points: [(x: Double, y: Double)]
    /// Draw points alone, or a line alone.
    public var showsLine = true
    public var showsPoints = true

    public init(_ name: String, _ points: [(x: Double, y: Double)], line: Bool = true, markers: Bool = true) {
      self.name = name
      self.points = points
      showsLine = line
      showsPoints = markers
    }
  }

  public var title: String
  public var xLabel: String
  public var yLabel: String
  public var series: [Series]
  /// Start the axes at zero.
  public var fromZero = true
  /// Both axes by their logarithm; all numbers are above zero then.
  public var isLogarithmic = false

  public init(title: String, x: String, y: String, _ series: [Series], fromZero: Bool = true) {
    self.title = title
    xLabel = x
    yLabel = y
    self.series = series
    self.fromZero = fromZero
  }

  private static let colours = [
    "#1f6fb2", "#c8501e", "#2f8f4e", "#7a4fa3", "#9a7d0a", "#4d4d4d", "#3aa6b9", "#d16ba5", "#8c5a2b", "#6b8e23",
    "#00205b", "#b22222",
  ]

  /// - Parameter height: at least; a long legend makes it more.
  public func svg(width: Double = 820, height: Double = 440) -> String {
    let legend = 44 + 7.2 * Double(series.map(\.name.count).max() ?? 0)
    let left = 78.0, right = min(legend, width / 2) + 12, top = 46.0, bottom = 58.0
    let height = max(height, top + 18 * Double(series.count) + 24)
    func place(_ v: Double) -> Double { isLogarithmic ? log10(v) : v }
    let all = series.flatMap(\.points)
    let (x0, x1) = range(all.map { place($0.x) }), (y0, y1) = range(all.map { place($0.y) })
    let xTicks = ticks(x0, x1), yTicks = ticks(y0, y1)
    let xLow = min(x0, xTicks.first ?? x0), xHigh = max(x1, xTicks.last ?? x1), yLow = min(y0, yTicks.first ?? y0),
      yHigh = max(y1, yTicks.last ?? y1)
    func px(_ x: Double) -> Double { left + (x - xLow) / max(1e-12, xHigh - xLow) * (width - left - right) }
    func py(_ y: Double) -> Double { height - bottom - (y - yLow) / max(1e-12, yHigh - yLow) * (height - top - bottom) }
    func f(_ v: Double) -> String { String(format: "%.1f", v) }

    var out = """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(width)) \(Int(height))" width="\(Int(width))" height="\(Int(height))" font-family="system-ui, sans-serif" font-size="13">
      <rect width="100%" height="100%" fill="white"/>
      <text x="\(f((left + width - right) / 2))" y="26" text-anchor="middle" font-size="16">\(Self.escaped(title))</text>

      """
    for tick in xTicks {
      out +=
        "<line x1=\"\(f(px(tick)))\" y1=\"\(f(top))\" x2=\"\(f(px(tick)))\" y2=\"\(f(height - bottom))\" stroke=\"#e4e4e4\"/>"
      out +=
        "<text x=\"\(f(px(tick)))\" y=\"\(f(height - bottom + 18))\" text-anchor=\"middle\">\(label(tick))</text>\n"
    }
    for tick in yTicks {
      out +=
        "<line x1=\"\(f(left))\" y1=\"\(f(py(tick)))\" x2=\"\(f(width - right))\" y2=\"\(f(py(tick)))\" stroke=\"#e4e4e4\"/>"
      out += "<text x=\"\(f(left - 8))\" y=\"\(f(py(tick) + 4))\" text-anchor=\"end\">\(label(tick))</text>\n"
    }
    out +=
      "<path d=\"M\(f(left)) \(f(top))V\(f(height - bottom))H\(f(width - right))\" fill=\"none\" stroke=\"#444\"/>\n"
    out +=
      "<text x=\"\(f((left + width - right) / 2))\" y=\"\(f(height - 14))\" text-anchor=\"middle\">\(Self.escaped(xLabel))</text>\n"
    out +=
      "<text transform=\"translate(18 \(f((top + height - bottom) / 2))) rotate(-90)\" text-anchor=\"middle\">\(Self.escaped(yLabel))</text>\n"
    for (index, s) in series.enumerated() {
      let colour = Self.colours[index % Self.colours.count]
      if s.showsLine, s.points.count > 1 {
        let path = s.points.map { "\(f(px(place($0.x)))),\(f(py(place($0.y))))" }.joined(separator: " ")
        out += "<polyline points=\"\(path)\" fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2\"/>\n"
      }
      if s.showsPoints {
        for p in s.points {
          out += "<circle cx=\"\(f(px(place(p.x))))\" cy=\"\(f(py(place(p.y))))\" r=\"4\" fill=\"\(colour)\"/>"
        }
      }
      let y = top + 16 + 18 * Double(index)
      out += "\n<rect x=\"\(f(width - right + 14))\" y=\"\(f(y - 9))\" width=\"12\" height=\"10\" fill=\"\(colour)\"/>"
      out += "<text x=\"\(f(width - right + 32))\" y=\"\(f(y))\">\(Self.escaped(s.name))</text>\n"
    }
    return out + "</svg>\n"
  }

  private func range(_ values: [Double]) -> (Double, Double) {
    let low = values.min() ?? 0, high = values.max() ?? 1
    if isLogarithmic { return (low, high > low ? high : low + 0.1) }
    return (fromZero ? min(0, low) : low, high > low || fromZero ? max(high, low + 1e-9) : low + 1)
  }

  /// Round steps of 1, 2 or 5 times a power of ten that cover the range.
  static func ticks(_ low: Double, _ high: Double) -> [Double] {
    let rough = max(1e-12, high - low) / 6, magnitude = pow(10, floor(log10(rough)))
    let step = [1, 2, 5, 10].map { $0 * magnitude }.first { $0 >= rough } ?? magnitude
    let first = Int((low / step).rounded(.down)), last = Int((high / step).rounded(.up))
    return (first...last).map { Double($0) * step }
  }

  /// Ticks at 1, 2 and 5 times each power of ten on logarithmic axes, closer ones where these are fewer than three.
  private func ticks(_ low: Double, _ high: Double) -> [Double] {
    guard isLogarithmic else { return Self.ticks(low, high) }
    for digits in [[1.0], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8], (10..<100).map { Double($0) / 10 }] {
      let all = (Int(low.rounded(.down))...Int(high.rounded(.up))).flatMap { power in
        digits.map { log10($0) + Double(power) }
      }
      let inside = all.filter { $0 >= low - 1e-9 && $0 <= high + 1e-9 }
      if inside.count >= 3 {
        return inside.count > 12
          ? inside.enumerated().filter { $0.offset % (inside.count / 6) == 0 }.map(\.element) : inside
      }
    }
    return [low, high]
  }

  private func label(_ tick: Double) -> String {
    guard isLogarithmic else { return Self.label(tick) }
    let value = pow(10, tick)
    return value >= 1e5 || value < 1e-3 ? String(format: "%.3g", value) : Self.label((value * 1e4).rounded() / 1e4)
  }

  private static func label(_ value: Double) -> String {
    if abs(value) >= 1000, value == value.rounded() {
      let digits = String(Int(abs(value)))
      let grouped = digits.reversed().enumerated().map { ($0 > 0 && $0 % 3 == 0 ? "," : "") + String($1) }.joined()
      return (value < 0 ? "−" : "") + String(grouped.reversed())
    }
    return String(format: "%g", (value * 1e9).rounded() / 1e9)
  }

  static func escaped(_ text: String) -> String {
    text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;").replacingOccurrences(
      of: ">", with: "&gt;")
  }
}
