import LadderCompute

/// llama.cpp's and ggml's own log lines, which are dropped unless asked for.
public enum EngineLog {
  /// - Parameter sink: called with each line, on any thread.
  public static func show(_ sink: @escaping @Sendable (String) -> Void) {
    Log.install()
    Log.setSink(sink)
  }

  /// - Parameter words: called where ggml gives up, before it ends the process.
  public static func setLastWords(_ words: @escaping @convention(c) (UnsafePointer<CChar>?) -> Void) {
    Log.setLastWords(words)
  }
}
