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

  /// Blocks of so many bytes go back to the system as soon as they are freed, and threads share so many heaps. What glibc
  /// keeps otherwise is a tenth of a training's memory and a fifth of a server's; other libraries have nothing to set.
  /// - Parameter heaps: nil leaves them.
  package static func givesBack(blocksOf bytes: Int, heaps: Int? = nil) {
    #if os(Linux)
      guard let symbol = dlsym(nil, "mallopt") else { return }
      let set = unsafeBitCast(symbol, to: (@convention(c) (Int32, Int32) -> Int32).self)
      _ = set(-3, Int32(bytes))  // M_MMAP_THRESHOLD
      if let heaps { _ = set(-8, Int32(heaps)) }  // M_ARENA_MAX
    #endif
  }

  /// Gives back the whole pages of private memory whose contents nobody needs, or of a mapped file: they are zero then, or
  /// the file's again.
  package static func release(_ bytes: UnsafeRawBufferPointer) {
    #if os(Linux)
      guard let base = bytes.baseAddress else { return }
      let page = Int(sysconf(Int32(_SC_PAGESIZE)))
      let start = (Int(bitPattern: base) + page - 1) / page * page
      let end = (Int(bitPattern: base) + bytes.count) / page * page
      if end > start { madvise(UnsafeMutableRawPointer(bitPattern: start), end - start, MADV_DONTNEED) }
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
