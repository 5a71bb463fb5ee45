import Foundation

/// SHA-1 (FIPS 180-4) of a file as git names it: over `blob`, its size and its bytes. The hub checks its small files so.
struct GitChecksum {
  private var state: [UInt32] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0]
  private var pending: [UInt8] = []
  private var count = 0

  init(size: Int) { update(Array("blob \(size)\0".utf8)) }

  mutating func update(_ bytes: some Sequence<UInt8>) {
    for byte in bytes {
      pending.append(byte)
      count += 1
      if pending.count == 64 { compress() }
    }
  }

  /// The digest of what came so far, 40 hexadecimal digits.
  func hexadecimal() -> String {
    var last = self
    let bits = UInt64(count) * 8
    last.update([0x80] + [UInt8](repeating: 0, count: (119 - count % 64) % 64))
    withUnsafeBytes(of: bits.bigEndian) { last.update(Array($0)) }
    return last.state.map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 8 - digits.count) + digits
    }.joined()
  }

  private mutating func compress() {
    func left(_ x: UInt32, _ n: UInt32) -> UInt32 { x << n | x >> (32 - n) }
    var w = (0..<16).map { i in (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(pending[4 * i + $1]) } }
    for t in 16..<80 { w.append(left(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1)) }
    var (a, b, c, d, e) = (state[0], state[1], state[2], state[3], state[4])
    for t in 0..<80 {
      let (f, k): (UInt32, UInt32) =
        switch t {
        case 0..<20: (b & c | ~b & d, 0x5A82_7999)
        case 20..<40: (b ^ c ^ d, 0x6ED9_EBA1)
        case 40..<60: (b & c | b & d | c & d, 0x8F1B_BCDC)
        default: (b ^ c ^ d, 0xCA62_C1D6)
        }
      (e, d, c, b, a) = (d, c, left(b, 30), a, left(a, 5) &+ f &+ e &+ k &+ w[t])
    }
    for (i, value) in [a, b, c, d, e].enumerated() { state[i] &+= value }
    pending.removeAll(keepingCapacity: true)
  }
}
