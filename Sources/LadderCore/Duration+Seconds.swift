extension Duration {
  /// In seconds, as a number.
  package var seconds: Double {
    let (whole, fraction) = components
    return Double(whole) + Double(fraction) * 1e-18
  }
}
