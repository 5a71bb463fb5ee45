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
    var sum = ContentChecksum()
    sum.add(bytes)
    return sum.value
  }
}

/// The checksum of bytes that come in pieces, the same however they are cut.
package struct ContentChecksum {
  /// Four lanes, so that the multiplications overlap.
  private var lanes = (0..<4).map { Checksum(seed: UInt64($0) &* 0x9E37_79B9_7F4A_7C15 &+ 1) }
  /// What is no four words yet.
  private var rest: [UInt8] = []
  private var count = 0

  package init() {}

  package mutating func add(_ piece: UnsafeRawBufferPointer) {
    count += piece.count
    var place = 0
    if !rest.isEmpty {
      place = min(32 - rest.count, piece.count)
      rest.append(contentsOf: piece[..<place])
      guard rest.count == 32 else { return }
      rest.withUnsafeBytes { mix($0) }
      rest = []
    }
    let whole = (piece.count - place) / 32 * 32
    mix(UnsafeRawBufferPointer(rebasing: piece[place..<(place + whole)]))
    rest.append(contentsOf: piece[(place + whole)...])
  }

  /// Bytes a multiple of 32.
  private mutating func mix(_ bytes: UnsafeRawBufferPointer) {
    lanes.withUnsafeMutableBufferPointer { lanes in
      for word in stride(from: 0, to: bytes.count, by: 32) {
        for lane in 0..<4 { lanes[lane].mix(bytes.loadUnaligned(fromByteOffset: word + 8 * lane, as: UInt64.self)) }
      }
    }
  }

  /// Of all that was added.
  package var value: UInt64 {
    var lanes = lanes
    let words = rest.count / 8
    rest.withUnsafeBytes { bytes in
      for word in 0..<words { lanes[0].mix(bytes.loadUnaligned(fromByteOffset: 8 * word, as: UInt64.self)) }
    }
    var sum = Checksum()
    lanes.forEach { sum.mix($0.value) }
    for byte in rest[(8 * words)...] { sum.mix(UInt64(byte)) }
    sum.mix(UInt64(count))
    return sum.value
  }
}
