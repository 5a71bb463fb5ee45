import Foundation
import LadderCore

extension ScalingStudy {
  /// In the order of their points.
  static func methods(_ points: [Point]) -> [String] {
    points.map(\.method).reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
  }

  /// The points as text, a heading first.
  static func cells(_ findings: Findings) -> [[String]] {
    [["method", "size", "samples", "tokens", "TFLOP", "loss on dev", "seconds", "GFLOP/s"]]
      + findings.points.map { point in
        [
          point.method, point.size, String(point.samples), String(point.tokens),
          String(format: "%.1f", point.compute / 1e12),
          String(format: "%.4f", point.loss),
          String(format: "%.0f", point.seconds), String(format: "%.0f", point.compute / max(1e-9, point.seconds) / 1e9),
        ]
      }
  }

  /// The least losses as text, a heading first; nil where budgets are of samples.
  static func minimaCells(_ findings: Findings) -> [[String]]? {
    findings.minima.map { minima in
      [["method", "TFLOP", "parameters there", "least loss", ""]]
        + minima.map {
          [
            $0.method, $0.budget.formatted(), String(format: "%.2f M", $0.parameters / 1e6),
            String(format: "%.4f", $0.loss), $0.isInside ? "" : "at an end of the sizes",
          ]
        }
    }
  }

  static func sentences(_ findings: Findings) -> [String] {
    let slopes = (findings.slopes ?? [:]).sorted { $0.key < $1.key }.map { method, slope in
      String(
        format:
          "%@: d ln L / d ln C through the least losses %.3f, the middle 90%% of resampled ones from %.3f to %.3f.",
        method, slope.value, slope.low, slope.high)
    }
    return slopes + laws(findings)
  }

  private static func laws(_ findings: Findings) -> [String] {
    findings.fits.sorted { $0.key < $1.key }.map { method, law in
      let interval =
        if let low = law.low, let high = law.high {
          String(format: ", the middle 90%% of resampled fits from %.3f to %.3f", low, high)
        } else {
          ", without an interval: three points leave nothing over"
        }
      return String(format: "%@: L = %.3g · C^(−%.3f) + %.3f; slope b %.3f", method, law.a, law.b, law.c, law.b)
        + interval + String(format: "; residual %.4f", law.residual)
    }
      + (findings.slopesOverlap.map {
        [$0 ? "The slopes' intervals overlap." : "The slopes' intervals do not overlap."]
      } ?? [])
  }

  public static func markdown(_ findings: Findings) -> String {
    let minima = minimaCells(findings).map { AccuracyTable.markdown($0) + "\n" } ?? ""
    return AccuracyTable.markdown(cells(findings)) + "\n" + minima + sentences(findings).map { $0 + "\n" }.joined()
  }

  func write(_ findings: Findings) throws {
    try DurableFile.write(folder + "/scaling.json", json: findings)
    try DurableFile.write(folder + "/scaling.md", [Data(Self.markdown(findings).utf8)])
    var report = HTMLReport(title: "Scaling study")
    for sentence in Self.sentences(findings) { report.add(paragraph: sentence) }
    let chart = Self.chart(findings)
    report.add(chart)
    for method in Self.methods(findings.points) {
      guard let sizes = Self.sizeChart(findings, method) else { continue }
      report.add(sizes)
      try DurableFile.write(folder + "/scaling-\(method).svg", [Data(sizes.svg().utf8)])
    }
    if let minima = Self.minimaCells(findings) { report.add("Least losses", table: minima) }
    report.add("Points", table: Self.cells(findings))
    try DurableFile.write(folder + "/scaling.svg", [Data(chart.svg().utf8)])
    try DurableFile.write(folder + "/scaling.html", [Data(report.html.utf8)])
  }

  static func chart(_ findings: Findings) -> LineChart {
    var series: [LineChart.Series] = []
    for (colour, method) in methods(findings.points).enumerated() {
      let own = findings.points.filter { $0.method == method }.sorted { $0.compute < $1.compute }
      if own.isEmpty { continue }
      var points = LineChart.Series(method, own.map { (x: $0.compute, y: $0.loss) }, line: false)
      points.colour = colour
      series.append(points)
      guard let law = findings.fits[method], let first = own.first?.compute, let last = own.last?.compute else {
        continue
      }
      let places = (0...24).map { first * pow(last / first, Double($0) / 24) }
      var curve = LineChart.Series(
        String(format: "%@: C^(−%.3f) + %.2f", method, law.b, law.c), places.map { (x: $0, y: law.value($0)) },
        markers: false)
      curve.colour = colour
      series.append(curve)
    }
    var chart = LineChart(
      title: "Loss over training compute", x: "floating-point operations", y: "loss on dev, nats a token", series,
      fromZero: false)
    chart.isLogarithmic = true
    return chart
  }

  /// Loss over size, a curve for each budget; nil where budgets are of samples.
  static func sizeChart(_ findings: Findings, _ method: String) -> LineChart? {
    guard let minima = findings.minima?.filter({ $0.method == method }), !minima.isEmpty else { return nil }
    var series: [LineChart.Series] = []
    for (colour, curve) in IsoCurve.curves(findings.points.filter { $0.method == method }).enumerated() {
      let sizes = curve.points.map { exp($0.logSize) }
      guard let first = sizes.first, let last = sizes.last else { continue }
      var points = LineChart.Series(
        "\(curve.minimum.budget.formatted()) TFLOP", zip(sizes, curve.losses).map { (x: $0, y: $1) }, line: false)
      points.colour = colour
      let places = (0...24).map { first * pow(last / first, Double($0) / 24) }
      var line = LineChart.Series(
        String(format: "least %.3f", curve.minimum.loss), places.map { (x: $0, y: curve.fit(log($0))) }, markers: false)
      line.colour = colour
      series += [points, line]
    }
    var chart = LineChart(
      title: "\(method): loss over size at each budget", x: "trained parameters", y: "loss on dev, nats a token",
      series,
      fromZero: false)
    chart.isLogarithmic = true
    return chart
  }
}
