extension Sequence<Sample> {
  /// Which keys the samples were written with that nothing reads, a short phrase; nil where there are none. A name that
  /// is spelled otherwise than meant shows here.
  package var unreadKeys: String? {
    var samples: [String: Int] = [:]
    for sample in self {
      for key in sample.unread { samples[key, default: 0] += 1 }
    }
    if samples.isEmpty { return nil }
    let keys = samples.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    let named = keys.prefix(8).map { "\"\($0.key.shown)\" in \($0.value)" }
    return "keys that are not read: " + named.joined(separator: ", ")
      + (keys.count > 8 ? " and \(keys.count - 8) more" : "")
  }
}
