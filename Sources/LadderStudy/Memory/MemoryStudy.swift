import Foundation
import LadderBackbone
import LadderCore
import LadderMethods
import LadderTrain

/// Peak memory of the methods over the context length and over the batch, each point a training of two steps in a
/// process of its own.
///
/// A point that the plan, corrected by the measured smaller ones, expects above the limit is not run: its row says so.
public struct MemoryStudy: Sendable {
  public struct Options: Sendable {
    /// Tokens of the one sequence of a step.
    public var lengths = [512, 1024, 2048]
    /// Sequences of a step, all in one micro-batch, each of `batchLength` tokens.
    public var batches = [1, 2, 4, 8]
    public var batchLength = 256
    /// Names of the methods to measure; empty for all.
    public var methods: [String] = []
    /// Rows that carry loss, as a share of the tokens.
    public var lossShare = 1.0
    /// Bytes to fit in.
    public var memory = 12_000_000_000
    /// Of the side networks, whatever its `method`.
    public var side = MethodOptions()
    public var machine = MachineOptions()

    public init() {}
  }

  public struct Row: Codable, Sendable {
    public var method: String
    public var length: Int
    public var batch: Int
    /// Nil where it was not run.
    public var peakBytes: Int?
    public var secondsPerThousandTokens: Double?
    /// From the plan, corrected by the smaller points that were measured.
    public var predictedBytes: Int
    public var fits: Bool

    enum CodingKeys: String, CodingKey {
      case method, length, batch
      case peakBytes = "peak_bytes"
      case secondsPerThousandTokens = "seconds_per_1000_tokens"
      case predictedBytes = "predicted_bytes"
      case fits
    }

    func isPoint(_ method: String, _ length: Int, _ batch: Int) -> Bool {
      (self.method, self.length, self.batch) == (method, length, batch)
    }
  }

  /// What is compared.
  private struct Column: Sendable {
    var name: String
    var options: MethodOptions
    let method: TuningMethod

    init(_ name: String, _ options: MethodOptions) throws {
      self.name = name
      self.options = options
      method = try options.chosen()
    }
  }

  public let options: Options
  private let model: String
  private let dimensions: ModelDimensions
  private let columns: [Column]

  /// - Parameter model: the GGUF's path.
  public init(model: String, _ options: Options = Options()) throws {
    guard options.lengths.allSatisfy({ $0 >= 2 }), options.batches.allSatisfy({ $0 >= 1 }), options.batchLength >= 2,
      options.lossShare > 0,
      options.lossShare <= 1
    else {
      throw LadderError(
        .usage,
        "the memory study wants lengths of 2 or more, batches of 1 or more, and a `lossShare` above 0 and at most 1")
    }
    self.model = model
    self.options = options
    dimensions = try ModelDimensions(GGUFFile(path: model))
    var once = options.side, climbing = options.side, adapter = MethodOptions()
    once.method = .lst
    once.passes = nil
    once.cross = nil
    once.depth = nil
    once.free = nil
    climbing.method = .xladder
    if climbing.depth == nil { climbing.passes = max(2, options.side.passes ?? 2) }
    adapter.method = .qlora
    var checkpointing = adapter
    checkpointing.checkpointing = .on
    let known = [
      try Column("lst", once), try Column("xladder", climbing), try Column("qlora", adapter),
      try Column("qlora+checkpointing", checkpointing),
    ]
    for column in known { _ = try column.method.needs(of: dimensions.outline) }
    if let name = options.methods.first(where: { name in !known.contains { $0.name == name } }) {
      throw LadderError(
        .usage, "the memory study has no method \(name); take \(known.map(\.name).joined(separator: ", "))")
    }
    columns = known.filter { options.methods.isEmpty || options.methods.contains($0.name) }
  }

  /// What a folder's rows were measured on.
  private struct Claim: Codable, Equatable {
    var model: String
    var side: String
    var machine: String
    var lossShare: Double
  }

  /// Measures what the folder does not hold, and writes the findings after each point.
  /// - Throws: `usage` where it holds rows of another model or other settings.
  public func run(_ runner: any Runner, into folder: String, report: (String) -> Void = { _ in }) throws -> [Row] {
    let claim = Claim(
      model: try GGUFFile(path: model).fingerprint().text, side: options.side.flags("=").joined(separator: " "),
      machine: options.machine.flags("=").joined(separator: " "), lossShare: options.lossShare)
    let claimPath = folder + "/study.json"
    var known: [Row] = DurableFile.value(folder + "/memory.json") ?? []
    if !known.isEmpty, DurableFile.value(claimPath) != claim {
      throw LadderError(.usage, "\(folder) holds a memory study of another model or other settings; take another `out`")
    }
    try DurableFile.makeFolder(folder)
    try DurableFile.write(claimPath, json: claim)
    // What did not fit once may fit another limit.
    known.removeAll { $0.peakBytes == nil }
    for index in known.indices { known[index].fits = (known[index].peakBytes ?? .max) <= options.memory }
    var rows: [Row] = []
    func add(_ row: Row) throws {
      rows.append(row)
      known.removeAll { $0.isPoint(row.method, row.length, row.batch) }
      try write(rows + known, to: folder)
    }
    for column in columns {
      var correction = 1.0
      for (length, batch) in options.lengths.sorted().map({ ($0, 1) })
        + options.batches.sorted().map({ (options.batchLength, $0) })
      {
        try Cancellation.check()
        // One of `lengths` may be `batchLength` too.
        if rows.contains(where: { $0.isPoint(column.name, length, batch) }) { continue }
        let place = "\(column.name), \(batch) × \(length) tokens"
        if let done = known.first(where: { $0.isPoint(column.name, length, batch) }) {
          correction = Double(done.peakBytes ?? 0) / Double(try planned(column, length, batch))
          try add(done)
          continue
        }
        let predicted = Int(correction * Double(try planned(column, length, batch)))
        guard predicted <= options.memory else {
          report("\(place): not run, \(predicted / 1_000_000) MB expected")
          try add(
            Row(
              method: column.name, length: length, batch: batch, peakBytes: nil, secondsPerThousandTokens: nil,
              predictedBytes: predicted, fits: false))
          continue
        }
        report(place)
        var job = MemoryJob(model: model, method: column.options, length: length)
        job.sequences = batch
        job.lossShare = options.lossShare
        job.machine = options.machine
        let measured = try runner.measure(job) { report("\(place): \($0)") }
        correction = Double(measured.peakBytes) / Double(try planned(column, length, batch))
        try add(
          Row(
            method: column.name, length: length, batch: batch, peakBytes: measured.peakBytes,
            secondsPerThousandTokens: measured.secondsPerThousandTokens,
            predictedBytes: predicted, fits: measured.peakBytes <= options.memory))
      }
    }
    return rows
  }

  /// Bytes at a length and a batch, from shapes alone.
  private func planned(_ column: Column, _ length: Int, _ batch: Int) throws -> Int {
    let tokens = length * batch
    let load = TrainingLoad(
      length: length, tokens: tokens, lossRows: max(1, Int(Double(tokens) * options.lossShare)))
    return try column.method.tuning.memory(dimensions, load).total
  }

  // MARK: - Findings

  /// The rows as text, a heading first.
  public func cells(_ rows: [Row]) -> [[String]] {
    func gigabytes(_ bytes: Int) -> String { String(format: "%.2f GB", Double(bytes) / 1e9) }
    let limit = String(format: "%g GB", Double(options.memory) / 1e9)
    return [["method", "batch", "tokens each", "peak memory", "tokens/s", "fits \(limit)"]]
      + rows.map { row in
        [
          row.method, String(row.batch), String(row.length),
          row.peakBytes.map(gigabytes) ?? "\(gigabytes(row.predictedBytes)) expected, not run",
          row.secondsPerThousandTokens.map { String(format: "%.0f", 1000 / $0) } ?? "–", row.fits ? "yes" : "no",
        ]
      }
  }

  public func markdown(_ rows: [Row]) -> String { AccuracyTable.markdown(cells(rows)) }

  /// Writes `memory.md`, `memory.json`, `memory.html` and the plots.
  public func write(_ rows: [Row], to folder: String) throws {
    try DurableFile.makeFolder(folder)
    try DurableFile.write(folder + "/memory.json", json: rows)
    try DurableFile.write(folder + "/memory.md", [Data(markdown(rows).utf8)])
    var report = HTMLReport(title: "Memory study")
    report.add("Peak memory of training", table: cells(rows))
    let charts = [
      chart(
        "Peak memory over the length", "tokens of the one sequence",
        rows.filter { $0.batch == 1 && options.lengths.contains($0.length) }
      ) { $0.length },
      chart(
        "Peak memory over the batch", "sequences of \(options.batchLength) tokens",
        rows.filter { $0.length == options.batchLength }
      ) { $0.batch },
    ]
    for (name, chart) in zip(["length", "batch"], charts) {
      report.add(chart)
      try DurableFile.write("\(folder)/memory-\(name).svg", [Data(chart.svg().utf8)])
    }
    try DurableFile.write(folder + "/memory.html", [Data(report.html.utf8)])
  }

  private func chart(_ title: String, _ x: String, _ rows: [Row], _ place: (Row) -> Int) -> LineChart {
    let series = columns.map { column in
      LineChart.Series(
        column.name,
        rows.filter { $0.method == column.name && $0.peakBytes != nil }.map {
          (x: Double(place($0)), y: Double($0.peakBytes ?? 0) / 1e9)
        })
    }
    return LineChart(title: title, x: x, y: "peak memory, GB", series.filter { !$0.points.isEmpty })
  }
}
