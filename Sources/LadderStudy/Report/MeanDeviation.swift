/// What a table says of a method's numbers over seeds.
struct MeanDeviation {
  let mean: Double
  /// The sample's standard deviation (n − 1), 0 for one number.
  let deviation: Double

  /// - Parameter values: one or more.
  init(_ values: [Double]) {
    let count = Double(values.count), mean = values.reduce(0, +) / count
    self.mean = mean
    deviation = values.count > 1 ? (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (count - 1)).squareRoot() : 0
  }
}
