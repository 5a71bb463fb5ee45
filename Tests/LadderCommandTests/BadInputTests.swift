import Foundation
import LadderCompute
import TestModels
import Testing

/// Each kind of bad input gets one clear line and its exit status, from the real command.
@Suite(.serialized) struct BadInputTests {
  let folder: TemporaryFolder
  let model: String
  let data: String

  init() throws {
    folder = try TemporaryFolder()
    model = try folder.model()
    data = try folder.write("train.jsonl", Self.lines(24))
  }

  static func lines(_ count: Int) -> String {
    (0..<count).map { "{\"prompt\": \"question \($0):\", \"completion\": \" \($0 % 2 == 0 ? "yes" : "no")\"}\n" }
      .joined()
  }

  private func train(_ more: [String], model: String? = nil, data: String? = nil, out: String? = nil) throws
    -> Command.Result
  {
    try Command.run(
      [
        "train", "--model", model ?? self.model, "--data", data ?? self.data, "--out", out ?? folder.file("run"),
        "--device", "CPU", "--batch-size", "8",
      ] + more,
      in: folder)
  }

  private func expect(
    _ result: Command.Result, _ status: Int32, _ words: String..., location: SourceLocation = #_sourceLocation
  ) {
    #expect(result.status == status, "\(result.errors)", sourceLocation: location)
    #expect(result.lastError.hasPrefix("ladder: "), "\(result.errors)", sourceLocation: location)
    for word in words { #expect(result.lastError.contains(word), "\(result.lastError)", sourceLocation: location) }
    #expect(result.output.isEmpty, sourceLocation: location)
  }

  @Test func missingModel() throws { expect(try train([], model: folder.file("none.gguf")), 66, "none.gguf") }
  @Test func missingData() throws { expect(try train([], data: folder.file("none.jsonl")), 66, "none.jsonl") }
  @Test func missingAdapter() throws {
    expect(
      try Command.run(["eval", "--model", model, "--adapter", folder.file("none"), "--data", data], in: folder), 66,
      "none")
  }

  @Test func truncatedModel() throws {
    let whole = try Data(contentsOf: URL(fileURLWithPath: model)), cut = folder.file("cut.gguf")
    try whole.prefix(whole.count / 2).write(to: URL(fileURLWithPath: cut))
    expect(try train([], model: cut), 65, "cut.gguf", "cut short")
  }

  @Test func foreignModel() throws { expect(try train([], model: data), 65, "not a GGUF") }

  @Test func encoderModel() throws {
    expect(
      try train([], model: try folder.model("bert.gguf") { $0.architecture = .bert }), 65, "encoder", "decoder-only")
  }

  @Test func malformedLine() throws {
    let bad = try folder.write("bad.jsonl", Self.lines(16) + "{\"prompt\": \"a\", \n" + Self.lines(4))
    expect(try train([], data: bad), 65, "bad.jsonl:17:")
  }

  @Test func emptyCompletion() throws {
    let bad = try folder.write("bad.jsonl", Self.lines(3) + "{\"prompt\": \"a\", \"completion\": \"\"}\n")
    expect(try train([], data: bad), 65, "bad.jsonl:4:", "empty")
  }

  /// A name that is spelled otherwise than meant shows.
  @Test func keysThatAreNotReadAreTold() throws {
    let path = try folder.write(
      "keys.jsonl", Self.lines(3) + "{\"prompt\": \"a\", \"completion\": \" b\", \"choises\": [\" b\", \" c\"]}\n")
    let result = try train(["--steps", "1", "--valid", path], data: path)
    let words = "4 samples (keys that are not read: \"choises\" in 1)"
    #expect(result.status == 0 && result.errors.components(separatedBy: words).count == 3, "\(result.errors)")
    let measured = try Command.run(["eval", "--model", model, "--data", path, "--metric", "loss"], in: folder)
    #expect(measured.errors.contains("\"choises\" in 1"), "\(measured.errors)")
  }

  @Test func emptyFile() throws { expect(try train([], data: try folder.write("empty.jsonl", "")), 65, "empty.jsonl") }

  @Test func overlongSamplesAreCounted() throws {
    let long = "{\"prompt\": \"\(String(repeating: "word ", count: 40))\", \"completion\": \" yes\"}\n"
    let path = try folder.write("long.jsonl", Self.lines(8) + long + long)
    let trimmed = try train(["--max-length", "64", "--steps", "1"], data: path, out: folder.file("a"))
    #expect(
      trimmed.status == 0 && trimmed.errors.contains("10 samples (2 trimmed to --max-length)"), "\(trimmed.errors)")
    let dropped = try train(
      ["--max-length", "64", "--steps", "1", "--overlong", "drop"], data: path, out: folder.file("b"))
    #expect(dropped.status == 0 && dropped.errors.contains("8 samples (2 dropped as too long)"), "\(dropped.errors)")
  }

  @Test func runOfAnotherBackbone() throws {
    #expect(try train(["--steps", "1"]).status == 0)
    let other = try folder.model("other.gguf") { $0.seed = 5 }
    let result = try Command.run(
      ["eval", "--model", other, "--adapter", folder.file("run"), "--data", data, "--device", "CPU"], in: folder)
    expect(result, 65, "fingerprint")
    #expect(result.lastError.components(separatedBy: "fingerprint ").count == 3, "both fingerprints are named")
  }

  @Test func unwritableFolder() throws {
    expect(try train([], out: data + "/run"), 74, "cannot make the folder")
    expect(try train([], out: "/proc/run"), 74, "/proc/run")
  }

  @Test(arguments: [
    ["--learning-rate", "0"], ["--learning-rate", "nan"], ["--batch-size", "0"], ["--rungs", "9"], ["--rungs", "x"],
    ["--downsample", "cubic"],
    ["--method", "magic"], ["--threads", "0"], ["--schedule", "never"], ["--reduction", "0.5"], ["--max-length", "1"],
    ["--device", "Nowhere0"], ["--steps", "-1"], ["--learning-rate", "-1e-3"],
  ]) func wrongUsage(_ arguments: [String]) throws {
    let result = try train(arguments)
    #expect(result.status == 64 && arguments.contains(where: result.lastError.contains), "\(result.errors)")
    #expect(!FileManager.default.fileExists(atPath: folder.file("run")), "a start that fails leaves no folder")
  }

  @Test(arguments: [
    ["--learning-rat", "1"], ["--steps"], ["--optimizer", "magic"], ["--batch-size", "many"], ["more"],
  ]) func unreadableArguments(_ arguments: [String]) throws {
    let result = try train(arguments)
    expect(result, 64, "ladder: ", arguments[0], "See 'ladder train --help'")
    #expect(result.errors.split(separator: "\n").count == 1, "\(result.errors)")
  }

  @Test func signalledGenerationSavesNothingAndSaysSo() throws {
    let running = try Command.start(
      ["generate", "--model", model, "--prompt", "a", "--max-tokens", "1000000"], in: folder)
    running.signal(SIGTERM) { ((try? Data(contentsOf: URL(fileURLWithPath: running.outputPath))) ?? Data()).count > 20 }
    let result = running.wait()
    #expect(result.status == 130 && result.errors.contains("stopping (again"), "\(result.errors)")
  }

  @Test func diverging() throws {
    let result = try train(["--learning-rate", "1e30", "--warmup", "0", "--epochs", "9", "--schedule", "constant"])
    expect(result, 65, "not finite", "--learning-rate")
  }

  @Test func brokenConfiguration() throws {
    expect(try train(["--config", folder.file("none.yaml")]), 66, "none.yaml")
    expect(try train(["--config", try folder.write("a.yaml", "epochs: [1\n")]), 65, "a.yaml:2: this is not valid YAML")
    expect(try train(["--config", try folder.write("b.yaml", "epoch-count: 3\n")]), 64, "b.yaml", "epoch-count")
    expect(
      try train(["--config", try folder.write("c.yaml", "lerning-rate: 3\n")]), 64, "did you mean learning-rate?")
  }

  @Test func brokenRun() throws {
    #expect(try train(["--steps", "1"]).status == 0)
    let weights = folder.file("run/ladder.safetensors")
    let bytes = try Data(contentsOf: URL(fileURLWithPath: weights))
    try bytes.prefix(bytes.count / 3).write(to: URL(fileURLWithPath: weights))
    expect(
      try Command.run(
        ["eval", "--model", model, "--adapter", folder.file("run"), "--data", data, "--device", "CPU"], in: folder), 65,
      "ladder.safetensors")
    try Data("{}".utf8).write(to: URL(fileURLWithPath: folder.file("run/ladder.json")))
    expect(try Command.run(["inspect", folder.file("run")], in: folder), 65, "ladder.json")
  }

  @Test func craftedWeights() throws {
    #expect(try train(["--steps", "1"]).status == 0)
    let weights = URL(fileURLWithPath: folder.file("run/ladder.safetensors"))
    let offsets = ["9223372036854775807, 9223372036854775807", "-8, 8", "0, 9223372036854775806", "8, 4"]
    let shapes = ["[9223372036854775807, 4]", "[-1]", "[4294967296, 4294967296]"]
    for (shape, offset) in shapes.map({ ($0, "0, 4") }) + offsets.map({ ("[1]", $0) }) {
      let header = "{\"a\": {\"dtype\": \"F32\", \"shape\": \(shape), \"data_offsets\": [\(offset)]}}"
      var bytes = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
      bytes.append(Data(header.utf8) + Data(count: 16))
      try bytes.write(to: weights)
      let arguments = ["eval", "--model", model, "--adapter", folder.file("run"), "--data", data, "--device", "CPU"]
      expect(try Command.run(arguments, in: folder), 65, "ladder.safetensors")
    }
  }

  @Test func aModelOfImpossibleSizes() throws {
    for (method, heads) in [("qlora", 0), ("qlora", -1), ("lst", 1 << 30)] {
      let odd = try folder.model("odd.gguf") { $0.headerHeads = heads }
      expect(try train(["--method", method, "--steps", "1"], model: odd), 65, "odd.gguf")
      let planned = try Command.run(["plan", "--model", odd], in: folder)
      #expect([0, 65].contains(planned.status), "a line, not a trap: \(planned.errors)")
    }
  }

  #if os(Linux)
    /// A file system of its own with little room; where this process may not mount one, a limit on the size of files
    /// stands in.
    @Test func fullDisk() throws {
      let disk = folder.file("disk")
      try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
      let small = "size=700k"
      let mounted = Self.shell("mount -t tmpfs -o \(small) tmpfs '\(disk)'") == 0
      defer { if mounted { _ = Self.shell("umount -l '\(disk)'") } }
      let out = disk + "/run"
      let arguments = [
        "train", "--model", model, "--data", data, "--out", out, "--device", "CPU", "--batch-size", "8",
        "--checkpoint-every", "1", "--epochs", "30",
      ]
      let result: Command.Result
      if mounted {
        result = try Command.run(arguments, in: folder)
      } else {
        let quoted = ([Command.path] + arguments).map { "'\($0)'" }.joined(separator: " ")
        let script = try folder.write("limited.sh", "trap '' XFSZ; ulimit -f 300; \(quoted) >out.txt 2>err.txt")
        let status = Self.shell("cd '\(folder.path)' && bash '\(script)'")
        let errors = try String(contentsOfFile: folder.file("err.txt"), encoding: .utf8)
        result = Command.Result(status: status, output: "", errors: errors)
      }
      expect(result, 74, "cannot write")
      // Nothing half-written is left behind.
      let left = FileManager.default.subpaths(atPath: disk) ?? []
      #expect(!left.contains { $0.hasSuffix(".tmp") }, "\(left)")
      let runManifest = try Data(contentsOf: URL(fileURLWithPath: out + "/ladder.json"))
      #expect((try? JSONSerialization.jsonObject(with: runManifest)) != nil)
    }

    static func shell(_ command: String) -> Int32 {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/bin/bash")
      process.arguments = ["-c", command + " 2>/dev/null"]
      do { try process.run() } catch { return -1 }
      process.waitUntilExit()
      return process.terminationStatus
    }
  #endif
}
