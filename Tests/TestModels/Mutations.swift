import Foundation
import LadderCore

/// Small changes to a file's bytes, the same ones for the same seed: what readers must take or refuse, and never fall
/// over.
///
/// Ordinary tests try some thousands. `LADDER_FUZZ_SECONDS=600 swift test --filter Fuzz` goes on for so long from a seed
/// of the clock's, and says which seed it was.
package struct Mutations {
  private var random: SeededRandom
  private let words: [[UInt8]]

  /// - Parameter words: pieces of the format, which are put in at random places.
  package init(seed: UInt64, words: [String] = []) {
    random = SeededRandom(seed: seed)
    self.words = words.map { Array($0.utf8) }
  }

  /// Calls `body` with changed copies of the files.
  package static func forEach(
    of files: [[UInt8]], words: [String] = [], count: Int = 3000, _ body: ([UInt8]) throws -> Void
  ) rethrows {
    let seconds = ProcessInfo.processInfo.environment["LADDER_FUZZ_SECONDS"].flatMap(Double.init)
    var seed: UInt64 = 1
    if seconds != nil {
      seed = UInt64(Date().timeIntervalSince1970)
      print("mutations from seed \(seed)")
    }
    var mutations = Mutations(seed: seed, words: words), tried = 0
    let end = Date().addingTimeInterval(seconds ?? 0)
    while seconds == nil ? tried < count : Date() < end {
      try body(mutations.changed(files))
      tried += 1
    }
    if seconds != nil { print("\(tried) mutations") }
  }

  private mutating func below(_ bound: Int) -> Int { Int(random.next() % UInt64(max(1, bound))) }

  private mutating func changed(_ files: [[UInt8]]) -> [UInt8] {
    var bytes = files[below(files.count)]
    for _ in 0...below(4) { change(&bytes, files) }
    return bytes
  }

  private mutating func change(_ bytes: inout [UInt8], _ files: [[UInt8]]) {
    let place = below(bytes.count + 1), end = min(bytes.count, place + below(16))
    switch below(words.isEmpty ? 7 : 10) {
    case 0: if place < bytes.count { bytes[place] ^= 1 << UInt8(below(8)) }
    case 1: if place < bytes.count { bytes[place] = [0, 1, 0x7f, 0x80, 0xff][below(5)] }
    case 2: bytes.replaceSubrange(place..<end, with: number())
    case 3: overwrite(&bytes, place, number())
    case 4: bytes.removeSubrange(place..<end)
    case 5: bytes.removeSubrange(place...)
    case 6:
      let other = files[below(files.count)], from = below(other.count), to = min(other.count, from + below(64))
      bytes.insert(contentsOf: other[from..<to], at: place)
    default: bytes.insert(contentsOf: words[below(words.count)], at: place)
    }
  }

  /// Eight or four bytes of a number that is often forgotten.
  private mutating func number() -> [UInt8] {
    let numbers: [UInt64] = [
      0, 1, 2, 0x7f, 0xff, 1 << 15, 1 << 16, 1 << 31, 1 << 32, 1 << 33, 1 << 60, 1 << 62, 1 << 63, .max, .max >> 1,
      .max - 7,
    ]
    let value = numbers[below(numbers.count)]
    return below(2) == 0
      ? withUnsafeBytes(of: value.littleEndian) { Array($0) }
      : withUnsafeBytes(of: UInt32(truncatingIfNeeded: value).littleEndian) { Array($0) }
  }

  private func overwrite(_ bytes: inout [UInt8], _ place: Int, _ number: [UInt8]) {
    let end = min(bytes.count, place + number.count)
    bytes.replaceSubrange(place..<end, with: number.prefix(end - place))
  }
}
