import Foundation
import TestModels
import Testing

/// Models and data sets of a hub on this machine, through the real command.
@Suite(.serialized) struct HubCommandTests {
  let server: FakeHub
  let folder: TemporaryFolder
  let data: String

  init() throws {
    server = try FakeHub()
    folder = try TemporaryFolder()
    data = try folder.write("train.jsonl", BadInputTests.lines(12))
    let model = try folder.model("tiny.gguf") { $0.chatTemplate = "{% for m in messages %}{{ m.content }}{% endfor %}" }
    try server.add("owner/tiny-GGUF", "tiny-F32.gguf", try Data(contentsOf: URL(fileURLWithPath: model)))
    for (index, part) in try SplitModelFiles.write(model, [20, 31], to: folder.file("split")).enumerated() {
      try server.add(
        "owner/split-GGUF", "tiny-0000\(index + 1)-of-00002.gguf", try Data(contentsOf: URL(fileURLWithPath: part)))
    }
  }

  private func run(_ arguments: [String], _ more: [String: String] = [:]) throws -> Command.Result {
    try Command.run(
      arguments, environment: server.environment(cache: folder.file("cache")).merging(more) { $1 }, in: folder)
  }

  @Test func everyCommandTakesTheHubsNames() throws {
    let model = "hf:owner/tiny-GGUF", out = folder.file("run")
    let trained = try run([
      "train", "--model", model, "--data", data, "--out", out, "--device", "CPU", "--batch-size", "4", "--steps", "2",
    ])
    #expect(trained.status == 0, "\(trained.errors)")
    server.forgetRequests()
    let away = ["HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"]
    let commands: [[String]] = [
      ["eval", "--model", model, "--adapter", out, "--data", data, "--device", "CPU"],
      ["generate", "--model", model, "--prompt", "a", "--max-tokens", "2", "--device", "CPU"],
      ["data", "--model", model, "--data", data],
      ["inspect", model], ["plan", "--model", model, "--no-time"],
      [
        "bench", "--model", model, "--steps", "1", "--decode", "0", "--no-cache", "--max-length", "32", "--device",
        "CPU",
      ],
    ]
    for command in commands {
      let result = try run(command, away)
      #expect(result.status == 0, "\(command[0]): \(result.errors)")
    }
    #expect(server.requests.isEmpty)
    let yaml = try folder.write("train.yaml", "model: \(model)\ndata: \(data)\nsteps: 1\nout: \(folder.file("two"))\n")
    let configured = try run(["train", "--config", yaml, "--device", "CPU"], away)
    #expect(configured.status == 0, "\(configured.errors)")
  }

  @Test func pullTellsWhereTheModelIs() throws {
    let result = try run(["pull", "hf:owner/split-GGUF"])
    #expect(result.status == 0 && result.output.hasSuffix("tiny-00001-of-00002.gguf\n"), "\(result.errors)")
    #expect(result.errors.contains("of"), "progress is shown")
    let path = result.output.trimmingCharacters(in: .newlines)
    let shown = try run(["inspect", path])
    #expect(shown.status == 0 && shown.output.contains("in 2 files"), "\(shown.errors)")
    #expect(try run(["pull", "hf:owner/split-GGUF", "--json"]).json["path"] as? String == path)
  }

  @Test func refusalsAreOneLine() throws {
    for (arguments, status, words) in [
      (["pull", "owner/x"], 64, "names nothing"), (["pull", "hf:owner/none"], 66, "owner/none"),
      (["pull", "hf:owner/tiny-GGUF:Q2_K"], 66, "it has F32"),
      (["pull", "hf:owner/tiny-GGUF", "--out", "x"], 64, "--out"),
      (["eval", "--model", "hf:owner/none", "--data", data], 66, "owner/none"),
    ] as [([String], Int32, String)] {
      let result = try run(arguments)
      #expect(result.status == status && result.lastError.contains(words), "\(result.errors)")
      #expect(result.errors.split(separator: "\n").count == 1 && result.output.isEmpty, "\(result.errors)")
    }
  }

  @Test func aStoppedPullGoesOn() throws {
    try server.add("owner/big", "m-Q4_K_M.gguf", FakeHub.bytes(2_000_000))
    try server.setFaults(#"{"match": "/cdn/", "do": "slow", "pause": 0.02}"#)
    let running = try Command.start(
      ["pull", "hf:owner/big"], environment: server.environment(cache: folder.file("cache")), in: folder)
    let blobs = folder.file("cache/models--owner--big/blobs")
    running.signal(SIGINT) {
      let names = (try? FileManager.default.contentsOfDirectory(atPath: blobs)) ?? []
      guard let name = names.first else { return false }
      let size = try? FileManager.default.attributesOfItem(atPath: "\(blobs)/\(name)")[.size] as? Int
      return (size ?? 0) > 100_000
    }
    let stopped = running.wait()
    #expect(stopped.status == 130 && stopped.lastError.contains("what was fetched is kept"), "\(stopped.errors)")
    server.forgetRequests()
    let result = try run(["pull", "hf:owner/big"])
    #expect(
      result.status == 0 && server.requests.contains { $0.range?.hasPrefix("bytes=") == true }, "\(result.errors)")
  }

  @Test func aDataSetIsTrainedOn() throws {
    let rows = (0..<130).map { "{\"prompt\": \"question \($0):\", \"completion\": \" yes\", \"picture\": {}}" }
    let features = #"{"prompt": {"_type": "Value"}, "completion": {"_type": "Value"}, "picture": {"_type": "Image"}}"#
    try server.addRows(
      "owner/set", "default", "train", "{\"features\": \(features), \"rows\": [\(rows.joined(separator: ", "))]}")
    let out = folder.file("rows.jsonl")
    let result = try run(["pull", "hf:datasets/owner/set", "--out", out])
    #expect(result.status == 0 && result.output == out + "\n", "\(result.errors)")
    #expect(result.errors.contains("picture is left out") && result.errors.contains("130 rows"))
    let trained = try run([
      "train", "--model", "hf:owner/tiny-GGUF", "--data", out, "--out", folder.file("run"), "--steps", "1", "--device",
      "CPU",
    ])
    #expect(trained.status == 0 && trained.errors.contains("130 samples"), "\(trained.errors)")
    let again = try run(["pull", "hf:datasets/owner/set", "--out", out])
    #expect(again.status == 64 && again.lastError.contains("--out"), "\(again.errors)")
  }
}
