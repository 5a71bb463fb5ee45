import Foundation

/// SHA-256 (FIPS 180-4) over bytes that come in parts.
package struct SHA256 {
  private var state: [UInt32] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
  ]
  /// Bytes that do not fill a block yet.
  private var pending: [UInt8] = []
  private var count = 0
  private var schedule = [UInt32](repeating: 0, count: 64)

  package init() {}

  /// A file's, as hexadecimal digits.
  /// - Throws: `missing`, `inputOutput`.
  package static func hexadecimal(ofFile path: String) throws -> String {
    var sum = SHA256()
    sum.update(try DurableFile.read(path))
    return sum.hexadecimal()
  }

  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    count += bytes.count
    var rest = bytes[...]
    if !pending.isEmpty {
      let taken = rest.prefix(64 - pending.count)
      pending.append(contentsOf: taken)
      rest = rest.dropFirst(taken.count)
      if pending.count < 64 { return }
      let block = pending
      block.withUnsafeBytes { compress($0, blocks: 1) }
      pending.removeAll(keepingCapacity: true)
    }
    let whole = rest.count / 64
    compress(UnsafeRawBufferPointer(rebasing: rest.prefix(64 * whole)), blocks: whole)
    pending.append(contentsOf: rest.dropFirst(64 * whole))
  }

  package mutating func update(_ bytes: some Sequence<UInt8>) { Array(bytes).withUnsafeBytes { update($0) } }

  /// A number as 8 bytes, the lowest first: what tells where parts of a message end.
  package mutating func update(_ number: Int) {
    withUnsafeBytes(of: UInt64(bitPattern: Int64(number)).littleEndian) { update($0) }
  }

  /// The digest of what came so far, 64 hexadecimal digits.
  package func hexadecimal() -> String {
    var last = self
    let bits = UInt64(count) * 8
    let zeros = (119 - count % 64) % 64
    last.update([0x80] + [UInt8](repeating: 0, count: zeros))
    withUnsafeBytes(of: bits.bigEndian) { last.update($0) }
    return last.state.map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 8 - digits.count) + digits
    }.joined()
  }

  private mutating func compress(_ bytes: UnsafeRawBufferPointer, blocks: Int) {
    func right(_ x: UInt32, _ n: UInt32) -> UInt32 { x >> n | x << (32 - n) }
    schedule.withUnsafeMutableBufferPointer { w in
      Self.constants.withUnsafeBufferPointer { k in
        state.withUnsafeMutableBufferPointer { state in
          for block in 0..<blocks {
            for t in 0..<16 {
              w[t] = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 64 * block + 4 * t, as: UInt32.self))
            }
            for t in 16..<64 {
              let s0 = right(w[t - 15], 7) ^ right(w[t - 15], 18) ^ w[t - 15] >> 3
              let s1 = right(w[t - 2], 17) ^ right(w[t - 2], 19) ^ w[t - 2] >> 10
              w[t] = s1 &+ w[t - 7] &+ s0 &+ w[t - 16]
            }
            var (a, b, c, d) = (state[0], state[1], state[2], state[3])
            var (e, f, g, h) = (state[4], state[5], state[6], state[7])
            for t in 0..<64 {
              let t1 = h &+ (right(e, 6) ^ right(e, 11) ^ right(e, 25)) &+ (e & f ^ ~e & g) &+ k[t] &+ w[t]
              let t2 = (right(a, 2) ^ right(a, 13) ^ right(a, 22)) &+ (a & b ^ a & c ^ b & c)
              (h, g, f, e, d, c, b, a) = (g, f, e, d &+ t1, c, b, a, t1 &+ t2)
            }
            for (i, value) in [a, b, c, d, e, f, g, h].enumerated() { state[i] &+= value }
          }
        }
      }
    }
  }

  private static let constants: [UInt32] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
  ]
}
