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
