import Foundation
import LadderBackbone
import LadderCompute
import LadderCore
import LadderData
import LadderMethods
import TestModels
import Testing

/// A backbone whose blocks lie with two workers, processes of this machine.
@Suite(.serialized) struct WorkerCommandTests {
  let folder: TemporaryFolder
  let model: String
  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
  }

  private final class Worker {
    let endpoint: String
    let running: Command.Running

    init(in folder: TemporaryFolder) throws {
      let port = try Self.freePort()
      endpoint = "127.0.0.1:\(port)"
      running = try Command.start(["worker", "--port", "\(port)", "--threads", "1", "--device", "CPU"], in: folder)
      for _ in 0..<600 {
        if Self.answers(port) { return }
        usleep(100_000)
      }
      throw LadderError(.engine, "no worker at \(endpoint)")
    }

    deinit { running.process.terminate() }

    private static func withSocket<R>(_ port: Int, _ body: (Int32, UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
      #if canImport(Glibc)
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      #else
        let descriptor = socket(AF_INET, SOCK_STREAM, 0)
      #endif
      defer { close(descriptor) }
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = in_port_t(port).bigEndian
      address.sin_addr.s_addr = inet_addr("127.0.0.1")
      return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          body(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    }

    private static func answers(_ port: Int) -> Bool { withSocket(port) { connect($0, $1, $2) == 0 } }

    private static func freePort() throws -> Int {
      for port in (20000..<30000).shuffled() where withSocket(port, { bind($0, $1, $2) == 0 }) { return port }
      throw LadderError(.engine, "no free port")
    }
  }

  @Test func theTapsAreThoseOfOneMachine() throws {
    let workers = [try Worker(in: folder), try Worker(in: folder)]
    defer { withExtendedLifetime(workers) {} }
    let alone = try Backbone(path: model, threads: 1, device: "CPU")
    let shared = try Backbone(path: model, threads: 1, workers: workers.map(\.endpoint))
    #expect(shared.deviceName == "2 workers")
    let sample = try #require(
      EncodedSample(sequence: (0..<40).map { 3 + $0 * 7 % 200 }, learned: (0..<40).map { $0 > 20 }))
    func read(_ backbone: Backbone) throws -> (taps: [[Float]], final: [Float]) {
      let rungs = Array(0...backbone.blocks)
      let pass = try ForwardPass(backbone, rungs: rungs, maxTokens: 64)
      let pool = TensorPool(backbone.engine)
      let taps = try rungs.map { _ in try pool.make(.float32, [backbone.width, sample.packed.tokens.count]) }
      let final = try pool.make(.float32, [backbone.width, sample.lossRows.count])
      try pass.run([sample.packed], taps: taps, final: final)
      return (taps.map { $0.read() }, final.read())
    }
    let own = try read(alone), others = try read(shared)
    for (a, b) in zip(own.taps + [own.final], others.taps + [others.final]) {
      let far = zip(a, b).map { abs($0 - $1) }.max() ?? 1, size = a.map(abs).max() ?? 0
      #expect(far <= 2e-2 * size && size > 0)
    }
  }

  @Test func trainingAndTextsGoOnWorkers() throws {
    let workers = [try Worker(in: folder), try Worker(in: folder)]
    defer { withExtendedLifetime(workers) {} }
    let data = folder.file("data.jsonl")
    let lines = (0..<40).map { #"{"prompt": "question \#($0) of many:", "completion": " answer \#($0 % 7)"}"# }
    try Data(lines.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: data))
    let train = ["train", "--model", model, "--data", data, "--batch-size", "8", "--seed", "3", "--threads", "1"]
    let endpoints = workers.map(\.endpoint).joined(separator: ",")
    for (name, place) in [("alone", ["--device", "CPU"]), ("shared", ["--workers", endpoints])] {
      for (method, more) in [("lst", [String]()), ("top", ["--method", "qlora", "--blocks", "1"])] {
        let out = "\(name)-\(method)"
        let result = try Command.run(train + place + more + ["--out", folder.file(out)], in: folder)
        #expect(result.status == 0, "\(result.errors)")
      }
    }
    func losses(_ run: String) throws -> [Double] {
      try String(contentsOfFile: folder.file("\(run)/metrics.jsonl"), encoding: .utf8).split(separator: "\n").compactMap
      {
        (try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])?["loss"] as? Double
      }
    }
    for method in ["lst", "top"] {
      let (a, b) = (try losses("alone-\(method)"), try losses("shared-\(method)"))
      #expect(a.count == 5 && b.count == 5 && zip(a, b).allSatisfy { abs($0 - $1) < 0.05 }, "\(a) \(b)")
    }
    let text = try Command.run(
      ["generate", "--model", model, "--workers", endpoints, "--adapter", folder.file("alone-lst"), "--prompt", "a"]
        + ["--max-tokens", "4", "--temperature", "0"], in: folder)
    #expect(text.status == 0, "\(text.errors)")
    let whole = try Command.run(
      train + ["--workers", endpoints, "--method", "qlora", "--out", folder.file("q")], in: folder)
    #expect(whole.status == 64 && whole.lastError.contains("--blocks"), "\(whole.errors)")
  }

  @Test func aWorkerThatIsNotThereIsTold() throws {
    let generate = ["generate", "--model", model, "--prompt", "a", "--max-tokens", "2"]
    let none = try Command.run(generate + ["--workers", "127.0.0.1:1"], in: folder)
    #expect(none.status == 66 && none.lastError.contains("127.0.0.1:1"), "\(none.errors)")
    let wrong = try Command.run(generate + ["--workers", "nonsense"], in: folder)
    #expect(wrong.status == 64, "\(wrong.errors)")
    let both = try Command.run(generate + ["--workers", "127.0.0.1:1", "--gpu-layers", "2"], in: folder)
    #expect(both.status == 64, "\(both.errors)")
  }

  /// ggml ends the process then: in one line, and what was saved stays.
  @Test func aWorkerThatIsKilledEndsTheRunInOneLine() throws {
    let worker = try Worker(in: folder), data = folder.file("data.jsonl")
    let lines = (0..<400).map { #"{"prompt": "question \#($0) of many:", "completion": " answer \#($0 % 7)"}"# }
    try Data(lines.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: data))
    let train = [
      "train", "--model", model, "--data", data, "--batch-size", "8", "--checkpoint-every", "2", "--epochs", "50",
    ]
    let running = try Command.start(
      train + ["--workers", worker.endpoint, "--out", folder.file("run")], in: folder)
    running.when({ folder.steps("run") > 4 }) { _ in kill(worker.running.process.processIdentifier, SIGKILL) }
    let result = running.wait()
    #expect(result.status == 70 && result.lastError.hasPrefix("ladder: "), "\(result.errors)")
    let steps = folder.steps("run"), other = try Worker(in: folder)
    defer { withExtendedLifetime(other) {} }
    let again = try Command.start(
      train + ["--workers", other.endpoint, "--out", folder.file("run"), "--resume"], in: folder)
    again.when({ folder.steps("run") > steps + 2 }) { kill($0, SIGINT) }
    let resumed = again.wait()
    #expect(resumed.status == 130 && resumed.errors.contains("resuming after step"), "\(resumed.errors)")
  }
}
