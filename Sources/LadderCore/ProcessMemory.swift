import Foundation

/// The process's memory, as the operating system counts it.
package enum ProcessMemory {
  /// The most bytes that were resident at once (anonymous and mapped), since the process began.
  package static var peak: Int {
    #if os(Linux)
      return status("VmHWM:") ?? 0
    #else
      var usage = rusage()
      getrusage(RUSAGE_SELF, &usage)
      return Int(usage.ru_maxrss)  // bytes on Darwin
    #endif
  }

  #if os(Linux)
    private static func status(_ key: String) -> Int? {
      guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return nil }
      for line in text.split(separator: "\n") where line.hasPrefix(key) {
        return line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
      }
      return nil
    }
  #endif
}
