import LadderCompute

/// llama.cpp's and ggml's own log lines, which are dropped unless asked for.
public enum EngineLog {
  /// - Parameter sink: called with each line, on any thread.
  public static func show(_ sink: @escaping @Sendable (String) -> Void) {
    Log.install()
    Log.setSink(sink)
  }
}
