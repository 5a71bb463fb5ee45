import Foundation
import LadderCore
import TestModels
import Testing

/// Shards of a cache, each a process of its own.
@Suite(.serialized) struct CacheCommandTests {
  let folder: TemporaryFolder
  let model: String, data: String
  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
    data = folder.file("data.jsonl")
    let lines = (0..<4000).map { #"{"prompt": "question \#($0) of many:", "completion": " answer \#($0 % 7)"}"# }
    try Data(lines.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: data))
  }

  private func arguments(_ directory: String, _ more: [String] = []) -> [String] {
    ["cache", "--model", model, "--data", data, "--cache", folder.file(directory), "--device", "CPU", "--threads", "2"]
      + more
  }

  @Test func aKilledShardIsDoneAgainAlone() throws {
    let whole = try Command.run(arguments("whole", ["--json"]), in: folder)
    #expect(whole.status == 0 && whole.json["samples"] as? Int == 4000, "\(whole.errors)")
    for index in [2, 3] {
      let shard = try Command.run(arguments("parts", ["--shard", "\(index)/3"]), in: folder)
      #expect(shard.status == 0, "\(shard.errors)")
    }
    // Killed once it has kept a whole group: some 64 samples, with 64 bytes of the index for each.
    func kept() -> Int {
      let files = FileManager.default.enumerator(atPath: folder.file("parts/shards"))
      guard let index = files?.compactMap({ $0 as? String }).first(where: { $0.hasSuffix("1-of-3/index") }) else {
        return 0
      }
      let attributes = try? FileManager.default.attributesOfItem(atPath: folder.file("parts/shards/" + index))
      return attributes?[.size] as? Int ?? 0
    }
    let running = try Command.start(arguments("parts", ["--shard", "1/3"]), in: folder)
    running.signal(SIGKILL) { kept() > 2 * 64 * 64 }
    #expect(running.wait().status == SIGKILL)
    let early = try Command.run(["cache", "--cache", folder.file("parts"), "--merge"], in: folder)
    #expect(early.status == 66 && early.lastError.contains("1 of 3 shards"), "\(early.errors)")
    let again = try Command.run(arguments("parts", ["--shard", "1/3", "--json"]), in: folder)
    #expect(again.status == 0, "\(again.errors)")
    #expect((again.json["computed_tokens"] as? Int ?? 0) < (again.json["tokens"] as? Int ?? 0))
    let merged = try Command.run(arguments("parts", ["--merge"]), in: folder)
    #expect(merged.status == 0, "\(merged.errors)")
    let name = (merged.output.trimmingCharacters(in: .whitespacesAndNewlines) as NSString).lastPathComponent
    for file in ["activations", "index", "cache.json"] {
      let parts = try Data(contentsOf: URL(fileURLWithPath: folder.file("parts/\(name)/\(file)")))
      let own = try Data(contentsOf: URL(fileURLWithPath: folder.file("whole/\(name)/\(file)")))
      #expect(parts == own, "\(file)")
    }
    #expect(!FileManager.default.fileExists(atPath: folder.file("parts/shards")))
    let all = try Command.run(arguments("parts", ["--json"]), in: folder)
    #expect(all.status == 0 && all.json["computed_tokens"] as? Int == 0, "\(all.errors)")
    let trained = try Command.run(
      ["train", "--model", model, "--data", data, "--cache", folder.file("parts"), "--steps", "2", "--device", "CPU"]
        + ["--out", folder.file("run")], in: folder)
    #expect(trained.status == 0, "\(trained.errors)")
  }

  @Test func wrongUsageIsTold() throws {
    for more in [["--shard", "0/3"], ["--shard", "4/3"], ["--shard", "one"], ["--keep-shards"]] {
      let result = try Command.run(arguments("c", more), in: folder)
      #expect(result.status == 64, "\(more): \(result.errors)")
    }
    #expect(try Command.run(arguments("c", ["--method", "qlora"]), in: folder).status == 64)
    #expect(try Command.run(["cache", "--model", model, "--data", data], in: folder).status == 64)
    #expect(try Command.run(arguments("c", ["--merge", "--shard", "1/2"]), in: folder).status == 64)
    #expect(try Command.run(["cache", "--merge"], in: folder).status == 64)
    #expect(try Command.run(["cache", "--cache", folder.file("none"), "--merge"], in: folder).status == 66)
  }
}
