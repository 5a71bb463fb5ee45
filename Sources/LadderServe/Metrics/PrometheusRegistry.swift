import CoreMetrics
import Foundation
import Synchronization

/// Keeps what swift-metrics is told, and writes it in Prometheus' text format.
///
/// Labels end as Prometheus wants them: counters with `_total`, times with `_seconds`.
final class PrometheusRegistry: MetricsFactory, Sendable {
  private struct Series: Hashable {
    let name: String
    let labels: String
  }

  private enum Value {
    case counter(Double)
    case gauge(Double)
    case histogram(counts: [Int], sum: Double)
  }

  /// Upper bounds of a histogram's buckets, in seconds.
  private static let bounds: [Double] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
  ]

  private let values = Mutex<[Series: Value]>([:])

  // MARK: - Telling

  fileprivate func add(_ amount: Double, _ name: String, _ labels: String) {
    values.withLock { values in
      let series = Series(name: name, labels: labels)
      var sum = amount
      if case .counter(let before) = values[series] { sum += before }
      values[series] = .counter(sum)
    }
  }

  fileprivate func reset(_ name: String, _ labels: String) {
    values.withLock { $0[Series(name: name, labels: labels)] = .counter(0) }
  }

  fileprivate func set(_ name: String, _ labels: String, _ change: (Double) -> Double) {
    values.withLock { values in
      let series = Series(name: name, labels: labels)
      var old = 0.0
      if case .gauge(let before) = values[series] { old = before }
      values[series] = .gauge(change(old))
    }
  }

  fileprivate func observe(_ value: Double, _ name: String, _ labels: String) {
    values.withLock { values in
      let series = Series(name: name, labels: labels)
      var counts = [Int](repeating: 0, count: Self.bounds.count + 1), sum = 0.0
      if case .histogram(let before, let total) = values[series] { (counts, sum) = (before, total) }
      counts[Self.bounds.firstIndex { value <= $0 } ?? Self.bounds.count] += 1
      values[series] = .histogram(counts: counts, sum: sum + value)
    }
  }

  // MARK: - Writing

  var text: String {
    let all = values.withLock { $0 }
    var result = ""
    for (name, series) in Dictionary(grouping: all, by: \.key.name).sorted(by: { $0.key < $1.key }) {
      result += "# TYPE \(name) \(Self.kind(of: series[0].value))\n"
      for (key, value) in series.sorted(by: { $0.key.labels < $1.key.labels }) {
        result += Self.lines(name, key.labels, value)
      }
    }
    return result
  }

  private static func kind(of value: Value) -> String {
    switch value {
    case .counter: "counter"
    case .gauge: "gauge"
    case .histogram: "histogram"
    }
  }

  private static func lines(_ name: String, _ labels: String, _ value: Value) -> String {
    let own = labels.isEmpty ? "" : "{\(labels)}"
    switch value {
    case .counter(let number), .gauge(let number): return "\(name)\(own) \(shown(number))\n"
    case .histogram(let counts, let sum):
      var result = "", below = 0
      for (count, bound) in zip(counts, bounds.map(shown) + ["+Inf"]) {
        below += count
        result += "\(name)_bucket{\(labels.isEmpty ? "" : labels + ",")le=\"\(bound)\"} \(below)\n"
      }
      return result + "\(name)_sum\(own) \(shown(sum))\n\(name)_count\(own) \(below)\n"
    }
  }

  private static func shown(_ number: Double) -> String {
    number == number.rounded() && abs(number) < 1e15 ? String(Int(number)) : String(number)
  }

  fileprivate static func labels(_ dimensions: [(String, String)]) -> String {
    dimensions.map { name, value in
      let escaped = value.replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "\"", with: "\\\"")
        .replacingOccurrences(of: "\n", with: "\\n")
      return "\(name)=\"\(escaped)\""
    }.joined(separator: ",")
  }

  // MARK: - swift-metrics

  func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
    Handler(registry: self, name: label, labels: Self.labels(dimensions))
  }

  func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
    Handler(registry: self, name: label, labels: Self.labels(dimensions))
  }

  func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
    Handler(registry: self, name: label, labels: Self.labels(dimensions))
  }

  func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
    Handler(registry: self, name: label, labels: Self.labels(dimensions))
  }

  func destroyCounter(_ handler: any CounterHandler) {}
  func destroyRecorder(_ handler: any RecorderHandler) {}
  func destroyMeter(_ handler: any MeterHandler) {}
  func destroyTimer(_ handler: any TimerHandler) {}

  private final class Handler: CounterHandler, RecorderHandler, MeterHandler, TimerHandler, Sendable {
    let registry: PrometheusRegistry
    let name, labels: String

    init(registry: PrometheusRegistry, name: String, labels: String) {
      self.registry = registry
      self.name = name
      self.labels = labels
    }

    func increment(by amount: Int64) { registry.add(Double(amount), name, labels) }
    func reset() { registry.reset(name, labels) }
    func record(_ value: Int64) { registry.observe(Double(value), name, labels) }
    func record(_ value: Double) { registry.observe(value, name, labels) }
    func recordNanoseconds(_ duration: Int64) { registry.observe(Double(duration) / 1e9, name, labels) }
    func set(_ value: Int64) { registry.set(name, labels) { _ in Double(value) } }
    func set(_ value: Double) { registry.set(name, labels) { _ in value } }
    func increment(by amount: Double) { registry.set(name, labels) { $0 + amount } }
    func decrement(by amount: Double) { registry.set(name, labels) { $0 - amount } }
  }
}
