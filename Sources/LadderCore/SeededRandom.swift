import Foundation

/// SplitMix64 (Steele et al. 2014): a small generator whose streams are told apart by their seeds.
package struct SeededRandom: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// Streams with different `path`s are independent: a step's dropout needs no state carried from the step before.
  package init(seed: UInt64, _ path: Int...) {
    state = seed
    for part in path { state = Self.mix(state &+ UInt64(bitPattern: Int64(part)) &* 0x9E37_79B9_7F4A_7C15 &+ 1) }
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    return Self.mix(state)
  }

  /// Uniform in [0, 1).
  package mutating func uniform() -> Float { Float(next() >> 40) * 0x1p-24 }

  /// Standard normal (Box–Muller).
  package mutating func normal() -> Float {
    let radius = (-2 * Foundation.log(1 - Double(uniform()))).squareRoot()
    return Float(radius * Foundation.cos(2 * .pi * Double(uniform())))
  }

  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
