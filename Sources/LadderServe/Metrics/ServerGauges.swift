import LadderCore
import Metrics

/// What is measured when somebody asks.
enum ServerGauges {
  /// - Parameters:
  ///   - texts: that are written or wait.
  ///   - models: that are served.
  static func tell(_ factory: any MetricsFactory, texts: Int, models: Int) {
    Meter(label: "ladder_texts", factory: factory).set(texts)
    Meter(label: "ladder_models", factory: factory).set(models)
    Meter(label: "ladder_peak_memory_bytes", factory: factory).set(ProcessMemory.peak)
  }
}
