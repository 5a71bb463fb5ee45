import Foundation
import TestModels
import Testing

/// A run and a cache that the command of format 1 wrote, in `Earlier/`, are read by this one.
///
/// `LADDER_EARLIER=path/to/that/ladder swift test --filter EarlierFiles` writes the files anew.
@Suite(.serialized) struct EarlierFilesTests {
  let folder: TemporaryFolder
  let model: String
  let data: String
  static let earlier = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Earlier")
    .path
  static let samples = 6

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
    data = try folder.write("train.jsonl", BadInputTests.lines(Self.samples))
    if let command = ProcessInfo.processInfo.environment["LADDER_EARLIER"] { try write(with: command) }
    for name in ["run", "cache"] {
      try FileManager.default.copyItem(atPath: "\(Self.earlier)/\(name)", toPath: folder.file(name))
    }
  }

  private func arguments(_ steps: Int, _ place: (String) -> String) -> [String] {
    [
      "train", "--model", model, "--data", data, "--out", place("run"), "--cache", place("cache"), "--device", "CPU",
      "--rungs", "1,3", "--reduction", "4", "--head-size", "16", "--batch-size", "3", "--steps", String(steps),
      "--schedule", "constant", "--optimizer", "adamw8bit",
    ]
  }

  private func write(with command: String) throws {
    let place = { (name: String) in "\(Self.earlier)/\(name)" }
    for name in ["run", "cache"] { try? FileManager.default.removeItem(atPath: place(name)) }
    try FileManager.default.createDirectory(atPath: Self.earlier, withIntermediateDirectories: true)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: command)
    process.arguments = arguments(4, place)
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
  }

  @Test func anEarlierRunIsEvaluated() throws {
    func loss(_ more: [String]) throws -> Double {
      let arguments = ["eval", "--json", "--model", model, "--data", data, "--device", "CPU", "--metric", "loss"]
      let result = try Command.run(arguments + more, in: folder)
      #expect(result.status == 0, "\(result.errors)")
      #expect(result.errors.contains("run was written before fingerprints") == more.contains("--adapter"))
      return try #require(result.json["loss"] as? Double)
    }
    let earlier = try loss(["--adapter", folder.file("run")])
    let base = try loss([])
    #expect(earlier < base)
  }

  @Test func anEarlierRunIsRefusedOnAnotherModel() throws {
    let other = try folder.model("other.gguf") { $0.seed = 2 }
    let arguments = ["eval", "--model", other, "--data", data, "--device", "CPU", "--adapter", folder.file("run")]
    let result = try Command.run(arguments, in: folder)
    #expect(result.status == 65 && result.lastError.contains("fingerprint 4e648c878d61dfc2"), "\(result.errors)")
    let resumed = try Command.run(
      self.arguments(9) { folder.file($0) }.map { $0 == model ? other : $0 } + ["--resume"], in: folder)
    #expect(resumed.status == 65 && resumed.lastError.contains("fingerprint 4e648c878d61dfc2"), "\(resumed.errors)")
  }

  @Test func anEarlierRunGoesOnFromItsCache() throws {
    let more = try Command.run(arguments(9) { folder.file($0) } + ["--resume"], in: folder)
    #expect(more.status == 0 && more.errors.contains("resuming after step 4"), "\(more.errors)")
    #expect(!more.errors.contains("stores no more"), "\(more.errors)")
    for name in ["run", "cache"] { #expect(more.errors.contains("\(name) was written before fingerprints")) }
    // From here on the run holds a fingerprint of the present kind.
    let again = try Command.run(arguments(9) { folder.file($0) } + ["--resume"], in: folder)
    #expect(again.status == 0 && !again.errors.contains("run was written before"), "\(again.errors)")
    #expect(folder.steps("run") == 9)
    let shown = try Command.run(["inspect", folder.file("cache")], in: folder)
    #expect(shown.output.components(separatedBy: "backbone").count == 2, "no second cache: \(shown.output)")
    // An 8-bit optimiser's state is kept in 8 bits now: its checkpoint is a third of what it was.
    let optimiser = try Data(
      contentsOf: URL(fileURLWithPath: folder.file("run/checkpoints/step-9/optimiser.safetensors")))
    let before = try Data(
      contentsOf: URL(fileURLWithPath: "\(Self.earlier)/run/checkpoints/step-4/optimiser.safetensors"))
    #expect(3 * optimiser.count < before.count + 6000, "\(optimiser.count) of \(before.count)")
  }
}
