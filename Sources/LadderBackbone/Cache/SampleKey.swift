import Foundation
import LadderData

/// Tells samples apart: 128 bits over tokens and loss rows.
package struct SampleKey: Hashable {
  package var low: UInt64
  package var high: UInt64

  package init(low: UInt64, high: UInt64) {
    self.low = low
    self.high = high
  }

  package init(_ sample: PackedSample) {
    var lowSum = Checksum()
    var highSum = Checksum(seed: 0x5bd1_e995_9747_b28c)
    for token in sample.tokens {
      lowSum.mix(UInt64(UInt32(bitPattern: token)))
      highSum.mix(UInt64(UInt32(bitPattern: token)) &+ 1)
    }
    lowSum.mix(UInt64.max)
    for row in sample.lossRows {
      lowSum.mix(UInt64(row))
      highSum.mix(UInt64(row) &+ 0x1_0000_0000)
    }
    if let fork = sample.fork {
      lowSum.mix(UInt64(fork.shared))
      highSum.mix(UInt64(fork.second))
    }
    low = lowSum.value
    high = highSum.value
  }
}

extension SampleKey {
  /// Tells samples apart whose tokens agree and whose targets do not: the last target is no token of its sample.
  package init(withTargets sample: EncodedSample) {
    self.init(sample.packed)
    var sum = Checksum(seed: high)
    sample.targets.forEach { sum.mix(UInt64(UInt32(bitPattern: $0))) }
    high = sum.value
  }
}

/// A 64-bit checksum over words (multiply and rotate): finds torn and damaged data, guards against no forger.
package struct Checksum {
  package private(set) var value: UInt64

  package init(seed: UInt64 = 0x9E37_79B9_7F4A_7C15) { value = seed }

  package mutating func mix(_ word: UInt64) {
    value = (value ^ word) &* 0xBF58_476D_1CE4_E5B9
    value = (value << 27 | value >> 37) &+ 0x94D0_49BB_1331_11EB
  }

  /// Sixteen hexadecimal digits.
  package var text: String { String(format: "%016llx", value) }

  package mutating func mix(_ key: SampleKey) {
    mix(key.low)
    mix(key.high)
  }

  package static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    // Four lanes, so that the multiplications overlap.
    var lanes = (0..<4).map { Checksum(seed: UInt64($0) &* 0x9E37_79B9_7F4A_7C15 &+ 1) }
    let words = bytes.count / 8
    lanes.withUnsafeMutableBufferPointer { lanes in
      var word = 0
      while word + 4 <= words {
        for lane in 0..<4 { lanes[lane].mix(bytes.loadUnaligned(fromByteOffset: 8 * (word + lane), as: UInt64.self)) }
        word += 4
      }
      while word < words {
        lanes[0].mix(bytes.loadUnaligned(fromByteOffset: 8 * word, as: UInt64.self))
        word += 1
      }
    }
    var sum = Checksum()
    lanes.forEach { sum.mix($0.value) }
    for byte in bytes[(8 * words)...] { sum.mix(UInt64(byte)) }
    sum.mix(UInt64(bytes.count))
    return sum.value
  }
}
