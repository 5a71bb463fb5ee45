import Foundation
import TestModels
import Testing

/// The real `ladder sweep`, on a tiny model.
@Suite(.serialized) struct SweepCommandTests {
  let folder: TemporaryFolder
  let model: String
  let data: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
    // Answers that a side network can learn, each prompt once.
    let lines = (0..<96).map { i in
      "{\"prompt\": \"is number \(i) of the list even?\", \"completion\": \" \(i % 2 == 0 ? "yes" : "no")\", "
        + "\"choices\": [\" yes\", \" no\"]}\n"
    }
    data = try folder.write("samples.jsonl", lines.joined())
  }

  private func sweep(_ out: String, _ more: [String]) -> [String] {
    [
      "sweep", "--model", model, "--data", data, "--out", folder.file(out), "--device", "CPU", "--threads", "1",
      "--max-length", "64", "--head-size", "8", "--json",
    ] + more
  }

  @Test func endsWithARunAndTheFileThatMakesItAgain() throws {
    let result = try Command.run(sweep("sweep", ["--budget", "3s"]), in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let trials = result.json["trials"] as? [[String: Any]] ?? []
    #expect(trials.count >= 5)
    // A part of the samples was judged by, all were learned from at last.
    #expect((result.json["judgedSamples"] as? Int ?? 0) >= 9)
    #expect((result.json["trainSamples"] as? Int ?? 0) + (result.json["judgedSamples"] as? Int ?? 0) == 96)
    let yaml = try String(contentsOfFile: folder.file("sweep/best.yaml"), encoding: .utf8)
    #expect(yaml.contains("head-size: 8") && yaml.contains("max-length: 64") && yaml.contains("samples.jsonl"))
    let again = try Command.run(
      ["train", "--config", folder.file("sweep/best.yaml"), "--out", folder.file("again")], in: folder)
    #expect(again.status == 0, "\(again.errors)")
    #expect(try folder.weights("again") == folder.weights("sweep/best"))
    // What lost is not kept.
    let runs = try FileManager.default.contentsOfDirectory(atPath: folder.file("sweep/runs"))
    #expect(runs.isEmpty, "\(runs)")
    let table = try String(contentsOfFile: folder.file("sweep/table.md"), encoding: .utf8)
    #expect(table.contains("(defaults)"))

    // The same command again has nothing to do but to say so; another search needs another folder.
    let repeated = try Command.run(sweep("sweep", ["--budget", "3s"]), in: folder)
    #expect(repeated.status == 0 && (repeated.json["trials"] as? [Any])?.count == trials.count, "\(repeated.errors)")
    let other = try Command.run(sweep("sweep", ["--budget", "3s", "--learning-rate", "1e-3"]), in: folder)
    #expect(other.status == 64 && other.lastError.contains("other options"), "\(other.errors)")
  }

  @Test func goesOnAfterASignal() throws {
    let path = folder.file("cut/trials.jsonl")
    func tried() -> [Substring] { ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").split(separator: "\n") }
    let running = try Command.start(sweep("cut", ["--budget", "60s"]), in: folder)
    running.signal(SIGINT) { tried().count >= 3 }
    let stopped = running.wait(), before = tried()
    #expect(stopped.status == 130, "\(stopped.errors)")
    let result = try Command.run(sweep("cut", ["--budget", "1s"]), in: folder)
    #expect(result.status == 0, "\(result.errors)")
    #expect(Array(tried().prefix(before.count)) == before)
  }

  @Test func aSpaceOfOnesOwnAndWhatIsNone() throws {
    let space = try folder.write("space.yaml", "learning-rate: [1e-3, 3e-3]\ntap-dropout: [0]\n")
    let result = try Command.run(sweep("own", ["--budget", "1s", "--space", space, "--valid", data]), in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let names = (result.json["trials"] as? [[String: Any]] ?? []).flatMap {
      ($0["choices"] as? [String: Any] ?? [:]).keys
    }
    #expect(Set(names).isSubset(of: ["learning-rate", "tap-dropout"]) && !names.isEmpty)

    let odd = try folder.write("odd.yaml", "learning-rat: [1e-3]\n")
    let pair = try folder.write("pair.jsonl", "{\"prompt\": \"a\", \"completion\": \" b\"}\n")
    for (options, status, words) in [
      (["--space", odd], 64, "learning-rate"), (["--budget", "soon"], 64, "budget"),
      (["--space", space, "--tap-dropout", "0.1"], 64, "tap-dropout"),
      (["--space", folder.file("none.yaml")], 66, "none"),
      (["--valid", folder.file("none.jsonl")], 66, "none.jsonl"), (["--method", "lst", "--rank", "2"], 64, "rank"),
    ] {
      let refused = try Command.run(sweep("refused", options), in: folder)
      #expect(Int(refused.status) == status && refused.lastError.contains(words), "\(options): \(refused.errors)")
    }
    let one = try Command.run(
      ["sweep", "--model", model, "--data", pair, "--out", folder.file("one"), "--budget", "1s"], in: folder)
    #expect(one.status == 65 && one.lastError.contains("--valid"), "\(one.errors)")
  }

  /// As many rungs as layers that read: the depth says how many, and they are not searched.
  @Test func aDepthKeepsItsRungs() throws {
    let result = try Command.run(
      sweep("deep", ["--budget", "1s", "--method", "xladder", "--depth", "2", "--rungs", "1,2"]), in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let usual = try Command.run(sweep("usual", ["--budget", "1s", "--method", "xladder", "--depth", "2"]), in: folder)
    #expect(usual.status == 0, "\(usual.errors)")
    #expect(!usual.output.contains("\"rungs\""))
  }

  @Test func oneProcessSweepsAFolder() throws {
    let first = try Command.start(sweep("one", ["--budget", "60s"]), in: folder)
    let trials = folder.file("one/trials.jsonl")
    first.signal(SIGSTOP) { FileManager.default.fileExists(atPath: trials) }
    let second = try Command.run(sweep("one", ["--budget", "60s"]), in: folder)
    #expect(second.status == 64 && second.lastError.contains("another process is sweeping"), "\(second.errors)")
    first.signal(SIGCONT) { true }
    first.signal(SIGINT) { true }
    #expect(first.wait().status == 130)
  }

  /// Of a cache that has room for a part of the samples a part is taken.
  @Test func aCachesLimitTakesFewerSamples() throws {
    let more = try folder.write(
      "more.jsonl",
      (0..<600).map { "{\"prompt\": \"is \($0) even?\", \"completion\": \" \($0 % 2)\"}\n" }.joined())
    let result = try Command.run(
      sweep("small", ["--budget", "2s", "--cache", folder.file("cache"), "--cache-limit", "2MB"]).map {
        $0 == data ? more : $0
      }, in: folder)
    #expect(result.status == 0, "\(result.errors)")
    #expect((result.json["share"] as? Double ?? 1) < 1, "\(result.output)")
  }

  /// QLoRA's rank and rate are searched too, without a cache where there can be none.
  @Test func lowRankAdditionsAreSearched() throws {
    for blocks in [[], ["--blocks", "2"]] {
      let out = "qlora\(blocks.count)"
      let result = try Command.run(
        sweep(out, ["--budget", "2s", "--method", "qlora"] + blocks).filter { $0 != "--head-size" && $0 != "8" },
        in: folder)
      #expect(result.status == 0, "\(result.errors)")
      #expect(FileManager.default.fileExists(atPath: folder.file("\(out)/best/adapter.gguf")))
    }
  }
}
