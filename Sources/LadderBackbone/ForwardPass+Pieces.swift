import LadderData

extension ForwardPass {
  /// Cuts one sample into calls: at every `unit` tokens, as llama.cpp does, and further where a call would hold more
  /// loss rows than it has room for. Such a cut is at a multiple of 64 tokens and leaves 64 or more, the tile of the
  /// engine's attention kernel: its sums then stay the same to the last bit.
  func pieces(_ sample: PackedSample) -> [Range<Int>] {
    let tile = 64
    let count = sample.tokens.count
    var result: [Range<Int>] = []
    var loss = putsOutAll ? sample.tokens.indices.map(\.self)[...] : stopsAtLastTap ? [] : sample.lossRows[...]
    for start in stride(from: 0, to: count, by: unit) {
      let end = min(start + unit, count)
      var first = start
      while first < end {
        var last = end
        if loss.count > outputsPerCall, let full = loss.dropFirst(outputsPerCall).first, full < end {
          // The tile that holds the row too many goes to the next piece, and its tail keeps a whole tile.
          let cut = min(full, end - tile) / tile * tile
          last = cut > first ? cut : full
        }
        result.append(first..<last)
        loss = loss.drop { $0 < last }
        first = last
      }
    }
    return result
  }
}
