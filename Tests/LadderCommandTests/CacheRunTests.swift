import Foundation
import LadderCompute
import TestModels
import Testing

/// The activation cache under real kills and on a real full disk.
@Suite(.serialized) struct CacheRunTests {
  let folder: TemporaryFolder
  let model: String
  let data: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
    data = try folder.write("train.jsonl", BadInputTests.lines(96))
  }

  private func arguments(_ run: String, _ more: [String] = []) -> [String] {
    [
      "train", "--model", model, "--data", data, "--out", folder.file(run), "--device", "CPU", "--batch-size", "4",
      "--epochs", "2",
    ] + more
  }

  @Test func aCacheWhoseWriterWasKilledIsUsable() throws {
    #expect(try Command.run(arguments("plain"), in: folder).status == 0)
    let cache = ["--cache", folder.file("cache")]
    for run in ["a", "b"] {
      let running = try Command.start(arguments(run, cache), in: folder)
      running.signal(SIGKILL) { folder.steps(run) >= 5 }
      #expect(running.wait().status == SIGKILL)
    }
    let whole = try Command.run(arguments("c", cache), in: folder)
    #expect(whole.status == 0, "\(whole.errors)")
    #expect(try folder.weights("c") == folder.weights("plain"))
    let shown = try Command.run(["inspect", folder.file("cache")], in: folder)
    #expect(shown.status == 0 && shown.output.contains("96"), "\(shown.output)")
  }

  #if os(Linux)
    @Test func aFullDiskStopsTheCacheNotTheRun() throws {
      let disk = folder.file("disk")
      try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
      guard BadInputTests.shell("mount -t tmpfs -o size=100k tmpfs '\(disk)'") == 0 else { return }
      defer { _ = BadInputTests.shell("umount -l '\(disk)'") }
      #expect(try Command.run(arguments("plain"), in: folder).status == 0)
      let result = try Command.run(arguments("full", ["--cache", disk]), in: folder)
      #expect(result.status == 0, "\(result.errors)")
      #expect(
        result.errors.components(separatedBy: "the cache stores no more").count == 2,
        "it is said once: \(result.errors)")
      #expect(try folder.weights("full") == folder.weights("plain"))
    }
  #endif

  /// Killed in its first epoch, in a later one, and stopped by SIGTERM: the weights are those of a run that was left
  /// alone.
  @Test func aKilledRunWithTheCachedHeadEndsAsIfLeftAlone() throws {
    func options(_ cache: String) -> [String] {
      ["--cache", folder.file(cache), "--head", "cached", "--checkpoint-every", "5", "--epochs", "3"]
    }
    let whole = try Command.run(arguments("whole", options("one")), in: folder)
    #expect(whole.status == 0 && whole.errors.contains("the cached head against the exact one in"), "\(whole.errors)")
    for (signal, step) in [(SIGKILL, 7), (SIGKILL, 31), (SIGTERM, 44)] {
      let running = try Command.start(arguments("killed", options("two") + ["--resume"]), in: folder)
      running.signal(signal) { folder.steps("killed") >= step }
      _ = running.wait()
    }
    let resumed = try Command.run(arguments("killed", options("two") + ["--resume"]), in: folder)
    #expect(resumed.status == 0, "\(resumed.errors)")
    #expect(try folder.weights("killed") == folder.weights("whole"))
  }

  @Test func twoProcessesShareACacheFromItsFirstWrite() throws {
    // Threads of two processes that wait for each other on the same cores take minutes.
    let one = ["--threads", "1"]
    #expect(try Command.run(arguments("plain", one), in: folder).status == 0)
    let cache = ["--cache", folder.file("shared")] + one
    for round in 0..<3 {
      try? FileManager.default.removeItem(atPath: folder.file("shared"))
      let runs = ["one-\(round)", "two-\(round)"]
      let running = try runs.map { try Command.start(arguments($0, cache), in: folder) }
      let results = running.map { $0.wait() }
      for (run, result) in zip(runs, results) {
        #expect(result.status == 0, "\(result.errors)")
        #expect(try folder.weights(run) == folder.weights("plain"))
      }
      let told = results.filter { $0.errors.contains("another process is writing to it") }
      #expect(told.count <= 1, "one of the two writes")
      let shown = try Command.run(["inspect", folder.file("shared")], in: folder)
      #expect(shown.output.contains("96"), "\(shown.output)")
    }
  }

  #if os(Linux)
    @Test func aReadOnlyCacheIsRead() throws {
      let disk = folder.file("disk")
      try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
      guard BadInputTests.shell("mount -t tmpfs -o size=50m tmpfs '\(disk)'") == 0 else { return }
      defer { _ = BadInputTests.shell("umount -l '\(disk)'") }
      #expect(try Command.run(arguments("plain", ["--cache", disk]), in: folder).status == 0)
      #expect(BadInputTests.shell("mount -o remount,ro '\(disk)'") == 0)
      let result = try Command.run(arguments("again", ["--cache", disk]), in: folder)
      #expect(result.status == 0, "\(result.errors)")
      #expect(result.errors.contains("its folder cannot be written to"), "\(result.errors)")
      #expect(try folder.weights("again") == folder.weights("plain"))
    }
  #endif

  @Test func evaluationKeepsToTheCachesFormatAndLimit() throws {
    let cache = folder.file("small")
    let limited = ["--cache", cache, "--cache-format", "q8_0", "--cache-limit", "300KB"]
    #expect(try Command.run(arguments("q8", limited), in: folder).status == 0)
    let many = try folder.write("many.jsonl", BadInputTests.lines(400))
    let evaluation = [
      "eval", "--model", model, "--data", many, "--adapter", folder.file("q8"), "--cache", cache, "--device", "CPU",
    ]
    let result = try Command.run(evaluation, in: folder)
    #expect(result.status == 0, "\(result.errors)")
    let names = try FileManager.default.contentsOfDirectory(atPath: cache).filter { $0 != "limit.json" }
    #expect(names.count == 1 && names[0].hasSuffix("q8_0"), "\(names)")
    let bytes = try FileManager.default.attributesOfItem(atPath: "\(cache)/\(names[0])/activations")[.size] as? Int ?? 0
    #expect(bytes > 50_000 && bytes <= 300_000, "\(bytes)")
  }

  @Test func wrongCacheOptions() throws {
    let noCache = try Command.run(arguments("x", ["--head", "cached"]), in: folder)
    #expect(noCache.status == 64 && noCache.lastError.contains("--cache"))
    let qlora = try Command.run(arguments("x", ["--head", "cached", "--method", "qlora"]), in: folder)
    #expect(qlora.status == 64 && qlora.lastError.contains("--head cached"))
    #expect(try Command.run(arguments("x", ["--head", "some"]), in: folder).status == 64)
    for more in [
      ["--cache-limit", "20GB"], ["--cache", folder.file("c"), "--cache-limit", "many"],
      ["--cache", folder.file("c"), "--cache-format", "q3"],
    ] {
      #expect(try Command.run(arguments("x", more), in: folder).status == 64)
    }
  }
}
