/// Elementary functions on eight numbers at a time, for host code that goes over whole vocabularies.
package enum VectorMath {
  package typealias Eight = SIMD8<Float>

  /// eˣ within 2e-7 of its value; 1e-38 for x below −87, and x is at most 88.
  @inlinable @inline(__always)
  package static func exp(_ x: Eight) -> Eight {
    let bounded = x.clamped(lowerBound: Eight(repeating: -87), upperBound: Eight(repeating: 88))
    // Adding 1.5·2²³ rounds to a whole number, which then lies in the lowest bits: 2ⁿ comes by adding it to an exponent.
    let shift = Eight(repeating: 12_582_912)
    let shifted = bounded * 1.442_695_04 + shift, n = shifted - shift
    let r = (bounded - n * 0.693_359_375) + n * 2.121_944_4e-4  // ln 2 in two parts
    var p = r * 1.987_569_1e-4 + 1.398_199_9e-3
    p = p * r + 8.333_452e-3
    p = p * r + 4.166_579_6e-2
    p = p * r + 1.666_666_5e-1
    p = p * r + 5.000_000_1e-1
    let e = p * (r * r) + r + 1
    let bits = unsafeBitCast(e, to: SIMD8<Int32>.self) &+ (unsafeBitCast(shifted, to: SIMD8<Int32>.self) &<< 23)
    return unsafeBitCast(bits, to: Eight.self)
  }

  /// tanh(x) within 3e-7.
  @inlinable @inline(__always)
  package static func tanh(_ x: Eight) -> Eight {
    let bounded = x.clamped(lowerBound: Eight(repeating: -9), upperBound: Eight(repeating: 9))
    return 1 - 2 / (exp(bounded * 2) + 1)
  }

  @inlinable @inline(__always)
  package static func load(_ values: UnsafePointer<Float>) -> Eight { UnsafeRawPointer(values).loadUnaligned(as: Eight.self) }
}
