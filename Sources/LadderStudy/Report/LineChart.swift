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
    /// Written beside the points; none, or one for each.
    public var labels: [String] = []
    /// Which of the chart's colours; nil is the series' own. What belongs together has one.
    public var colour: Int?

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
    let left = 78.0, right = min(legend, width / 2) + 12
    let top = 46.0, bottom = 58.0
    let height = max(height, top + 18 * Double(series.count) + 24)
    func place(_ value: Double) -> Double { isLogarithmic ? log10(value) : value }
    let all = series.flatMap(\.points)
    let (leastX, mostX) = range(all.map { place($0.x) })
    let (leastY, mostY) = range(all.map { place($0.y) })
    let xTicks = ticks(leastX, mostX), yTicks = ticks(leastY, mostY)
    let xLow = min(leastX, xTicks.first ?? leastX), xHigh = max(mostX, xTicks.last ?? mostX)
    let yLow = min(leastY, yTicks.first ?? leastY), yHigh = max(mostY, yTicks.last ?? mostY)
    func number(_ value: Double) -> String { String(format: "%.1f", value) }
    // Where a place on an axis is on the page.
    func across(_ x: Double) -> Double { left + (x - xLow) / max(1e-12, xHigh - xLow) * (width - left - right) }
    func down(_ y: Double) -> Double {
      height - bottom - (y - yLow) / max(1e-12, yHigh - yLow) * (height - top - bottom)
    }
    let middle = number((left + width - right) / 2)
    let topEdge = number(top), bottomEdge = number(height - bottom)
    let leftEdge = number(left), rightEdge = number(width - right)

    var out = """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(width)) \(Int(height))" \
      width="\(Int(width))" height="\(Int(height))" font-family="system-ui, sans-serif" font-size="13">
      <rect width="100%" height="100%" fill="white"/>
      <text x="\(middle)" y="26" text-anchor="middle" font-size="16">\(Self.escaped(title))</text>

      """
    for tick in xTicks {
      let x = number(across(tick))
      out += "<line x1=\"\(x)\" y1=\"\(topEdge)\" x2=\"\(x)\" y2=\"\(bottomEdge)\" stroke=\"#e4e4e4\"/>"
      out += "<text x=\"\(x)\" y=\"\(number(height - bottom + 18))\" text-anchor=\"middle\">\(label(tick))</text>\n"
    }
    for tick in yTicks {
      let y = number(down(tick))
      out += "<line x1=\"\(leftEdge)\" y1=\"\(y)\" x2=\"\(rightEdge)\" y2=\"\(y)\" stroke=\"#e4e4e4\"/>"
      out +=
        "<text x=\"\(number(left - 8))\" y=\"\(number(down(tick) + 4))\" text-anchor=\"end\">\(label(tick))</text>\n"
    }
    out += "<path d=\"M\(leftEdge) \(topEdge)V\(bottomEdge)H\(rightEdge)\" fill=\"none\" stroke=\"#444\"/>\n"
    out += "<text x=\"\(middle)\" y=\"\(number(height - 14))\" text-anchor=\"middle\">\(Self.escaped(xLabel))</text>\n"
    out +=
      "<text transform=\"translate(18 \(number((top + height - bottom) / 2))) rotate(-90)\" text-anchor=\"middle\">"
      + "\(Self.escaped(yLabel))</text>\n"
    for (index, line) in series.enumerated() {
      let colour = Self.colours[(line.colour ?? index) % Self.colours.count]
      let points = line.points.map { (x: number(across(place($0.x))), y: number(down(place($0.y)))) }
      if line.showsLine, points.count > 1 {
        let path = points.map { "\($0.x),\($0.y)" }.joined(separator: " ")
        out += "<polyline points=\"\(path)\" fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2\"/>\n"
      }
      if line.showsPoints {
        for point in points {
          out += "<circle cx=\"\(point.x)\" cy=\"\(point.y)\" r=\"4\" fill=\"\(colour)\"/>"
        }
      }
      for (label, point) in zip(line.labels, line.points) {
        // To the left of the point where there is no room to its right.
        let x = across(place(point.x)), fits = x + 10 + 6.6 * Double(label.count) < width - right
        out += "<text x=\"\(number(fits ? x + 8 : x - 8))\" y=\"\(number(down(place(point.y)) - 6))\" font-size=\"12\" "
        out += "fill=\"\(colour)\" text-anchor=\"\(fits ? "start" : "end")\">\(Self.escaped(label))</text>"
      }
      let y = top + 16 + 18 * Double(index)
      let box = number(width - right + 14), text = number(width - right + 32)
      out += "\n<rect x=\"\(box)\" y=\"\(number(y - 9))\" width=\"12\" height=\"10\" fill=\"\(colour)\"/>"
      out += "<text x=\"\(text)\" y=\"\(number(y))\">\(Self.escaped(line.name))</text>\n"
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
    let rough = max(1e-12, high - low) / 6
    let magnitude = pow(10, floor(log10(rough)))
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
