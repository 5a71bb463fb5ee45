import LadderCompute

extension Tensor {
  /// (value(x + h) − value(x − h)) / 2h in element `i`; the tensor is left as it was.
  package func centralDifference(_ i: Int, h: Float, _ value: () throws -> Double) throws -> Float {
    var values = read()
    let x = values[i]
    values[i] = x + h
    write(values)
    let above = try value()
    values[i] = x - h
    write(values)
    let below = try value()
    values[i] = x
    write(values)
    return Float((above - below) / Double(2 * h))
  }
}
